"""Model hubs as sources: Hugging Face and ModelScope, each asked for a repository's files before any is fetched.

A hub lists (`list_files`); `HubSource` compares the list with the catalog and fetches. Knows no engine and no package.
`HF_ENDPOINT` and `HF_TOKEN` are read by huggingface_hub, `MODELSCOPE_DOMAIN` here as ModelScope's own client does.
"""

import asyncio
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import aiohttp
from huggingface_hub import HfApi, get_token, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError

from avatar.hub import files as on_disk
from avatar.hub.catalog import Model, ModelFile
from avatar.hub.source import OnProgress, Progress, SourceFailed, SourceName, SourceUnreachable, State, listed
from avatar.hub.transport import Remote, Transport, refusal


class Hub(Protocol):
    """What differs between hubs."""

    name: SourceName

    def repo(self, model: Model, file: ModelFile) -> str:
        """The repository that has `file`; empty if none does."""
        ...

    async def list_files(self, repo: str, transport: Transport) -> Mapping[str, Remote]:
        """Path -> file. Raises `SourceUnreachable`, or `SourceFailed` when this repository cannot be had."""
        ...


class HubSource:
    """Files of models from one hub."""

    def __init__(self, hub: Hub, transport: Transport) -> None:
        self.name = hub.name
        self._hub = hub
        self._transport = transport

    async def fetch(self, model: Model, files: Sequence[ModelFile], folder: Path, on_progress: OnProgress) -> None:
        plan, problems = await self._plan(model, files)
        needed_bytes = sum(remote.size_bytes or 0 for _, remote in plan)
        begun = {file.name: on_disk.size_of(on_disk.part_of(folder, file.name)) for file, _ in plan}
        on_disk.require_space(folder, needed_bytes - sum(begun.values()), self._transport.free_bytes)
        for file, remote in plan:
            on_progress(Progress(model.key, file.name, self.name, "planned", begun[file.name], remote.size_bytes))
        for file, remote in plan:

            def tell(state: State, received_bytes: int, note: str, file: ModelFile = file, of: Remote = remote) -> None:
                on_progress(Progress(model.key, file.name, self.name, state, received_bytes, of.size_bytes, note))

            try:
                await self._transport.download(remote, folder, file.name, self.name, tell)
                tell("done", remote.size_bytes or 0, "")
            except SourceFailed as error:
                tell("failed", 0, str(error))
                problems.append(f"{file.name}: {error}")
                if isinstance(error, SourceUnreachable):
                    raise SourceUnreachable("; ".join(problems)) from error
        if problems:
            raise SourceFailed("; ".join(problems))

    async def _plan(self, model: Model, files: Sequence[ModelFile]) -> tuple[list[tuple[ModelFile, Remote]], list[str]]:
        """What to fetch from where, and why the rest cannot be had here."""
        by_repo: dict[str, list[ModelFile]] = defaultdict(list)
        for file in files:
            by_repo[self._hub.repo(model, file)].append(file)
        plan: list[tuple[ModelFile, Remote]] = []
        problems: list[str] = []
        for repo, wanted in by_repo.items():
            if not repo:
                problems.append(f"it does not carry {listed(wanted)}")
                continue
            try:
                listing = await self._hub.list_files(repo, self._transport)
            except SourceUnreachable:
                raise
            except SourceFailed as error:
                problems.append(f"{repo}: {error}")
                continue
            for file in wanted:
                remote = listing.get(file.repo_path or file.name)
                problem = _mismatch(file, remote)
                if remote is None or problem:
                    problems.append(f"{repo}: {problem}")
                else:
                    size_bytes = file.size_bytes or remote.size_bytes
                    sha256 = file.sha256 or remote.sha256
                    plan.append((file, Remote(remote.url, size_bytes, sha256, remote.headers)))
        return plan, problems


def _mismatch(file: ModelFile, remote: Remote | None) -> str:
    """Why `remote` cannot be `file`, told before a byte is fetched; empty if it can."""
    if remote is None:
        return f"it has no {file.repo_path or file.name}"
    if file.sha256 and remote.sha256 and file.sha256 != remote.sha256:
        return f"its {file.name} is another version (wrong hash)"
    if file.size_bytes and remote.size_bytes and file.size_bytes != remote.size_bytes:
        return f"its {file.name} is another version (wrong size)"
    return ""


class HuggingFace:
    """huggingface.co, or the mirror that HF_ENDPOINT names."""

    name: SourceName = "huggingface"

    def repo(self, model: Model, file: ModelFile) -> str:
        return file.repo or model.huggingface

    async def list_files(self, repo: str, transport: Transport) -> Mapping[str, Remote]:
        api = HfApi()
        # First, because the client's own limit leaves out the look-up of the name and counts anew for each address.
        await transport.reach(api.endpoint)
        timeout_s = transport.connect_timeout_s
        try:
            info = await asyncio.to_thread(api.model_info, repo, files_metadata=True, timeout=timeout_s)
        except HfHubHTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            kind = SourceUnreachable if status >= 500 else SourceFailed
            raise kind(refusal(status)) from error
        except Exception as error:
            # Which exception means "no connection" depends on the HTTP client of the huggingface_hub release.
            raise SourceUnreachable(f"{api.endpoint} cannot be reached ({type(error).__name__})") from error
        token = get_token()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return {
            file.rfilename: Remote(
                # the revision just listed, so that the file is the one that was described
                hf_hub_url(repo, file.rfilename, revision=info.sha, endpoint=api.endpoint),
                file.size,
                file.lfs.sha256 if file.lfs else None,
                headers,
            )
            for file in info.siblings or ()
        }


class ModelScope:
    """modelscope.cn, or the site that MODELSCOPE_DOMAIN names."""

    name: SourceName = "modelscope"

    def __init__(self) -> None:
        domain = os.environ.get("MODELSCOPE_DOMAIN") or "www.modelscope.cn"
        self._endpoint = domain if "://" in domain else f"https://{domain}"

    def repo(self, model: Model, file: ModelFile) -> str:
        return "" if file.repo else model.modelscope

    async def list_files(self, repo: str, transport: Transport) -> Mapping[str, Remote]:
        url = f"{self._endpoint}/api/v1/models/{repo}/repo/files"
        try:
            async with (
                asyncio.timeout(3 * transport.connect_timeout_s),
                transport.session.get(url, params={"Revision": "master", "Recursive": "true"}) as response,
            ):
                if response.status >= 400:
                    kind = SourceUnreachable if response.status >= 500 else SourceFailed
                    raise kind(refusal(response.status))
                listed = (await response.json())["Data"]["Files"]
        except (aiohttp.ClientError, TimeoutError) as error:
            raise SourceUnreachable(f"{self._endpoint} cannot be reached ({type(error).__name__})") from error
        except (KeyError, TypeError, ValueError) as error:
            raise SourceFailed("its list of files is not understood") from error
        return {
            file["Path"]: Remote(
                f"{self._endpoint}/models/{repo}/resolve/master/{quote(file['Path'])}",
                file.get("Size"),
                file.get("Sha256") or None,
            )
            for file in listed
            if file.get("Type") != "tree"
        }
