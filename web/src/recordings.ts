// The replies' audio, kept for replay in this page's memory: the last few turns, and never more than a bound.

export const MAX_TURNS = 20;
export const MAX_BYTES = 64 * 1024 * 1024;

export interface Recording {
  rateHz: number;
  pieces: ArrayBuffer[];
  bytes: number;
}

export class Recordings {
  private readonly byTurn = new Map<string, Recording>(); // in order of arrival

  begin(turnId: string, rateHz: number): void {
    this.byTurn.delete(turnId);
    this.byTurn.set(turnId, { rateHz, pieces: [], bytes: 0 });
    this.forget();
  }

  add(turnId: string, piece: ArrayBuffer): void {
    const recording = this.byTurn.get(turnId);
    if (!recording) return;
    recording.pieces.push(piece);
    recording.bytes += piece.byteLength;
    this.forget();
  }

  get(turnId: string): Recording | undefined {
    const recording = this.byTurn.get(turnId);
    return recording?.bytes ? recording : undefined;
  }

  clear(): void {
    this.byTurn.clear();
  }

  private forget(): void {
    let bytes = [...this.byTurn.values()].reduce((sum, recording) => sum + recording.bytes, 0);
    for (const [turnId, recording] of this.byTurn) {
      if (this.byTurn.size <= MAX_TURNS && bytes <= MAX_BYTES) return;
      this.byTurn.delete(turnId);
      bytes -= recording.bytes;
    }
  }
}
