import { Agent, request } from "undici";
import { labels } from "../api/names.ts";
import type { Progress, Totals, TypeCount } from "../contracts.ts";
import { progressPort } from "./job.ts";
import type { Pod } from "./view.ts";

const timeoutMilliseconds = 2000;
const maxBytes = 65_536;
const atOnce = 32;
/** a plan's pod exports what is small by itself */
const telling = new Set<string | undefined>(["plan", "export"]);

/** Asks running workers how far they are. Advisory: what cannot be reached, or answers nonsense, is left out; no decision reads it. */
export class ProgressPoller {
  readonly #last = new Map<string, Progress>();
  // worker pods come and go, so connections are not kept
  readonly #agent = new Agent({ connect: { timeout: timeoutMilliseconds }, pipelining: 0, allowH2: false });
  readonly #pods: () => Iterable<Pod>;
  readonly #changed: (exportKey: string) => void;

  /** @param changed is called with the key of an export whose progress is new */
  constructor(pods: () => Iterable<Pod>, changed: (exportKey: string) => void) {
    this.#pods = pods;
    this.#changed = changed;
  }

  /** What these pods said last. */
  of = (podUIDs: readonly string[]): Progress[] => podUIDs.flatMap((uid) => this.#last.get(uid) ?? []);

  /** One round over all running workers. */
  async poll(signal: AbortSignal): Promise<void> {
    const running = [...this.#pods()].filter(
      ({ status, metadata }) =>
        status?.phase === "Running" && status.podIP && telling.has(metadata.labels?.[labels.command]),
    );
    const alive = new Set(running.map(({ metadata }) => metadata.uid));
    for (const uid of this.#last.keys()) if (!alive.has(uid)) this.#last.delete(uid);
    const queue = running.values();
    await Promise.all(
      Array.from({ length: Math.min(atOnce, running.length) }, async () => {
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
        if (text.length > maxBytes) throw new Error("too long");
      }
      const progress = statusCode === 200 ? parseProgress(text, own[labels.uid] ?? "", uid) : undefined;
      if (!progress) return;
      const before = this.#last.get(uid)?.totals.resources;
      this.#last.set(uid, progress);
      if (before !== progress.totals.resources) this.#changed(`${namespace}/${own[labels.name]}`);
    } catch {
      // the pod is starting, ending or out of reach; its last word stands
    }
  }
}

/** A pod is no one to be trusted: numbers are checked, and that it is the pod that was asked. */
export function parseProgress(text: string, exportUID: string, podUID: string): Progress | undefined {
  try {
    const value: Progress = JSON.parse(text);
    const known = value.v === 1 && value.uid === exportUID && (value.podUID === undefined || value.podUID === podUID);
    if (!known || !isCount(value.index) || !isTotals(value.totals)) return undefined;
    const types = Array.isArray(value.types) ? value.types.filter(isTypeCount).slice(0, 200) : [];
    return { v: 1, uid: value.uid, podUID, index: value.index, totals: value.totals, types, throttledSeconds: 0 };
  } catch {
    return undefined;
  }
}

const isCount = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 0;
const isTotals = (value: Totals | undefined) =>
  typeof value === "object" &&
  value !== null &&
  [value.files, value.resources, value.bytes, value.errors].every(isCount);
const isTypeCount = (value: TypeCount) =>
  isTotals(value) && typeof value.type === "string" && /^[A-Z][A-Za-z]{1,63}$/.test(value.type);
