"""The body of `/v1/chat/completions`, and what of it an engine is asked. Pure."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from avatar.engines.base import Message, Tool, ToolCall
from avatar.server.openai.body import Body
from avatar.server.openai.errors import WrongField, unsupported

MAX_STOPS = 4
MAX_MESSAGES = 4096
MAX_TOOLS = 128
"""OpenAI's own bounds on stop sequences and tools."""


class Part(Body):
    """A piece of a message; only text is understood here, and what an earlier answer refused is text."""

    type: str
    text: str = ""
    refusal: str = ""


class Function(Body):
    """A call, as the model once wrote it."""

    name: str
    arguments: str = "{}"


class Call(Body):
    """A tool call of an earlier answer."""

    id: str
    function: Function


class ChatMessage(Body):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None
    tool_calls: list[Call] | None = None
    tool_call_id: str | None = None

    def as_message(self) -> Message:
        """As engines take it. Raises `WrongField` for pictures and the like."""
        calls = tuple(ToolCall(call.id, call.function.name, call.function.arguments) for call in self.tool_calls or ())
        role = "system" if self.role == "developer" else self.role
        return Message(role, self._text(), calls, self.tool_call_id)

    def _text(self) -> str:
        if isinstance(self.content, str | None):
            return self.content or ""
        if any(part.type not in ("text", "refusal") for part in self.content):
            raise unsupported("messages", "The language model here reads text alone.")
        return "\n".join(part.text or part.refusal for part in self.content)


class FunctionSpec(Body):
    """A function on offer."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=lambda: {"type": "object", "properties": {}})


class ToolSpec(Body):
    """A tool on offer."""

    type: Literal["function"]
    function: FunctionSpec


class ChosenFunction(Body):
    """The function that must be called."""

    name: str


class ChosenTool(Body):
    """The tool that must be called."""

    type: Literal["function"]
    function: ChosenFunction


class StreamOptions(Body):
    """How a stream is told."""

    include_usage: bool = False


class JsonSchema(Body):
    """What an answer must fit; `strict` is all there is here."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    schema_: Annotated[dict[str, Any], Field(alias="schema")] = Field(default_factory=dict)


class ResponseFormat(Body):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class ChatRequest(Body):
    """What a client may send; hints to other models (penalties, caching, …) are passed over."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    model: str = ""
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: int | None = None
    stop: str | Annotated[list[str], Field(max_length=MAX_STOPS)] | None = None
    tools: Annotated[list[ToolSpec], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["auto", "none", "required"] | ChosenTool | None = None
    parallel_tool_calls: bool | None = True
    n: int | None = None
    logprobs: bool | None = None
    response_format: ResponseFormat | None = None
    modalities: list[str] | None = None
    functions: list[Any] | None = None

    def refuse_what_cannot_be(self) -> None:
        """Raise `WrongField` for what goes with nothing else in the request, and for what nobody here has: it would be
        missing from the answer in silence."""
        for is_asked, param, why in (
            ((self.n or 1) != 1, "n", "One answer at a time is given here."),
            (self.logprobs, "logprobs", "No engine here gives `logprobs`."),
            (
                set(self.modalities or ()) - {"text"},
                "modalities",
                "Answers here are text; /v1/audio/speech speaks them.",
            ),
            (self.functions, "functions", "Offer functions as `tools`."),
        ):
            if is_asked:
                raise unsupported(param, why)
        if self.stream_options is not None and not self.stream:
            raise WrongField("stream_options", "`stream_options` is only allowed when `stream` is enabled.")
        self._check_form()
        self._check_tools()

    def _check_form(self) -> None:
        form = self.response_format
        if form is not None and form.type == "json_schema" and form.json_schema is None:
            param = "response_format.json_schema"
            raise WrongField(param, f"Missing required parameter: '{param}'.", "missing_required_parameter")

    def _check_tools(self) -> None:
        wish = self.tool_wish
        if wish == "required" and not self.tools:
            raise WrongField("tool_choice", "`tool_choice` is only allowed when `tools` are specified.")
        if wish not in ("auto", "required") and wish not in [tool.name for tool in self.offered_tools()]:
            raise WrongField("tool_choice", "`tool_choice` names a tool that is not in `tools`.")
        for place, message in enumerate(self.messages):
            if message.role == "tool" and message.tool_call_id is None:
                param = f"messages[{place}].tool_call_id"
                raise WrongField(param, f"Missing required parameter: '{param}'.", "missing_required_parameter")

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with its usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def schema_of_answer(self) -> dict[str, Any] | None:
        """As `Sampling.schema`."""
        if self.response_format is None or self.response_format.type == "text":
            return None
        return self.response_format.json_schema.schema_ if self.response_format.json_schema is not None else {}

    @property
    def max_new_tokens(self) -> int | None:
        """Bound on the answer, if there is one."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def stop_sequences(self) -> Sequence[str]:
        """Where the answer is to end."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [sequence for sequence in given if sequence]

    @property
    def tool_wish(self) -> str:
        """As `Sampling.tool_choice`."""
        if isinstance(self.tool_choice, ChosenTool):
            return self.tool_choice.function.name
        return "required" if self.tool_choice == "required" else "auto"

    def offered_tools(self) -> list[Tool]:
        """As engines take them; none where none may be called."""
        if self.tool_choice == "none":
            return []
        functions = [tool.function for tool in self.tools or ()]
        return [Tool(function.name, function.description, function.parameters) for function in functions]

    def prompt(self) -> list[Message]:
        """As engines take it."""
        return [message.as_message() for message in self.messages]
