import { Agent, request } from "undici";
import { labels } from "../api/names.ts";
import type { Progress, Totals, TypeCount } from "../contracts.ts";
import { progressPort } from "./job.ts";
import type { Pod } from "./view.ts";

const timeoutMilliseconds = 2000;
/** a longer answer is nonsense */
const maxProgressBytes = 65_536;
const troubles = ["SourceUnreachable", "SourceUnauthorized", "SourceNotFHIR", "SourceInconsistent"] as const;
/** characters of what a worker says that its requests meet */
const maxTrouble = 1024;
/** workers that are asked at the same time */
const askedAtOnce = 32;
/** Only these commands export: the plan's pod exports a small export by itself. */
const exporting = new Set<string | undefined>(["plan", "export"]);

/** Asks running workers for their progress. It is shown only; no decision depends on it. A worker that cannot be
 *  reached, or whose answer makes no sense, is left out. */
export class ProgressPoller {
  readonly #last = new Map<string, Progress>();
  // Worker pods come and go, so no connection is kept.
  readonly #agent = new Agent({ connect: { timeout: timeoutMilliseconds }, pipelining: 0, allowH2: false });
  readonly #pods: () => Iterable<Pod>;
  readonly #changed: (exportKey: string) => void;

  /** @param changed called with the key of an export whose progress is new */
  constructor(pods: () => Iterable<Pod>, changed: (exportKey: string) => void) {
    this.#pods = pods;
    this.#changed = changed;
  }

  /** The last progress that these pods reported. */
  of = (podUIDs: readonly string[]): Progress[] => podUIDs.flatMap((uid) => this.#last.get(uid) ?? []);

  /** Asks all running workers once. */
  async poll(signal: AbortSignal): Promise<void> {
    const running = [...this.#pods()].filter(
      ({ status, metadata }) =>
        status?.phase === "Running" && status.podIP && exporting.has(metadata.labels?.[labels.command]),
    );
    const alive = new Set(running.map(({ metadata }) => metadata.uid));
    for (const uid of this.#last.keys()) if (!alive.has(uid)) this.#last.delete(uid);
    const queue = running.values();
    await Promise.all(
      Array.from({ length: Math.min(askedAtOnce, running.length) }, async () => {
        for (const pod of queue) await this.#ask(pod, signal);
      }),
    );
  }

  async close(): Promise<void> {
    await this.#agent.destroy();
  }

  async #ask({ metadata, status }: Pod, signal: AbortSignal): Promise<void> {
    const { uid = "", namespace, labels: own = {} } = metadata;
    try {
      const host = status?.podIP?.includes(":") ? `[${status.podIP}]` : status?.podIP;
      const { body, statusCode } = await request(`http://${host}:${progressPort}/progress`, {
        dispatcher: this.#agent,
        signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMilliseconds)]),
      });
      let text = "";
      for await (const chunk of body) {
        text += chunk;
        if (text.length > maxProgressBytes) throw new Error("too long");
      }
      const progress = statusCode === 200 ? parseProgress(text, own[labels.uid] ?? "", uid) : undefined;
      if (!progress) return;
      const before = this.#last.get(uid);
      this.#last.set(uid, progress);
      const isNews =
        before?.totals.resources !== progress.totals.resources || before.trouble?.message !== progress.trouble?.message;
      if (isNews) this.#changed(`${namespace}/${own[labels.name]}`);
    } catch {
      // The pod is starting, ending or out of reach. What it reported last stays.
    }
  }
}

/** Checks an answer, as a pod cannot be trusted: it must be of this export and this pod, and its counts must be counts.
 *  @returns undefined = the answer makes no sense */
export function parseProgress(text: string, exportUID: string, podUID: string): Progress | undefined {
  try {
    const value: Progress = JSON.parse(text);
    const known = value.v === 1 && value.uid === exportUID && (value.podUID === undefined || value.podUID === podUID);
    if (!known || !isWholeCount(value.index) || !isTotals(value.totals)) return undefined;
    const types = Array.isArray(value.types) ? value.types.filter(isTypeCount).slice(0, 200) : [];
    const { uid, index, totals, paused } = value;
    const trouble = troubleIn(value.trouble);
    return {
      v: 1,
      uid,
      podUID,
      index,
      totals,
      types,
      throttledSeconds: 0,
      ...(paused === true && { paused }),
      ...(trouble && { trouble }),
    };
  } catch {
    return undefined;
  }
}

/** What a worker's requests meet, as it may stand in a status. */
function troubleIn(value: unknown): Progress["trouble"] {
  const { reason, message } = (value ?? {}) as Record<string, unknown>;
  const known = troubles.find((one) => one === reason);
  return known && typeof message === "string" ? { reason: known, message: message.slice(0, maxTrouble) } : undefined;
}

const isWholeCount = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 0;
const isTotals = (value: Totals | undefined) =>
  typeof value === "object" &&
  value !== null &&
  [value.files, value.resources, value.bytes, value.errors].every(isWholeCount);
const isTypeCount = (value: TypeCount) =>
  isTotals(value) && typeof value.type === "string" && /^[A-Z][A-Za-z]{1,63}$/.test(value.type);
