// The loudspeaker's end of the audio thread: takes a reply's PCM, plays it, and reports what it has really played.

import { Player, type PlayerReport } from "./player";

export type PlayerCommand =
  | { do: "begin"; id: string; rateHz: number }
  | { do: "push"; pcm: ArrayBuffer }
  | { do: "end" }
  | { do: "lower" }
  | { do: "hold" }
  | { do: "resume" }
  | { do: "clear" };

const REPORT_S = 0.05;

class Playback extends AudioWorkletProcessor {
  private readonly player = new Player(sampleRate);
  private sinceReport = 0;
  private over = true; // the end of the current reply has been reported

  constructor() {
    super();
    this.port.onmessage = ({ data }: MessageEvent<PlayerCommand>) => this.obey(data);
  }

  private obey(command: PlayerCommand): void {
    if (command.do === "begin") {
      this.player.begin(command.id, command.rateHz);
      this.over = false;
    } else if (command.do === "push") this.player.push(new Int16Array(command.pcm));
    else if (command.do === "clear") {
      this.player.clear();
      this.tell();
    } else this.player[command.do]();
  }

  process(_inputs: Float32Array[][], outputs: Float32Array[][]): boolean {
    const output = outputs[0]?.[0];
    if (!output) return true;
    this.player.fill(output);
    this.sinceReport += output.length;
    if (this.sinceReport >= REPORT_S * sampleRate) this.tell();
    return true;
  }

  private tell(): void {
    this.sinceReport = 0;
    if (this.over) return;
    const report: PlayerReport = this.player.report();
    this.over = report.ended;
    this.port.postMessage(report);
  }
}

registerProcessor("avatar-playback", Playback);
