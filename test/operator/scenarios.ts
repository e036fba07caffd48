import { annotations } from "../../src/api/names.ts";
import type { Command } from "../../src/contracts.ts";
import type { Settings } from "../../src/operator/settings.ts";
import type { Happening } from "./drive.ts";
import { FakePort, makeExport, makeSource, makeTarget, report, type Script } from "./fake.ts";

export interface Scenario {
  name: string;
  make(): FakePort;
  happenings?: Happening[];
  settings?: Partial<Settings>;
  /** Ready.reason and the true conditions at the end; absent = the object is gone */
  end: string[] | undefined;
  /** what must have been done, from FakePort.counts */
  did?: string;
}

const key = "ns/x";
const place =
  (spec: Parameters<typeof makeExport>[0] = {}, script?: Script) =>
  () => {
    const port = new FakePort();
    if (script) port.script = script;
    port.add(makeExport(spec));
    return port;
  };
const active =
  (command: Command, attempt = 1): Happening =>
  (port) =>
    [...port.runs.values()].some(
      (run) => run.spec.command === command && run.attempt === attempt && run.state === "active",
    );
const when =
  (can: Happening, act: (port: FakePort) => void): Happening =>
  (port) => {
    if (!can(port)) return false;
    act(port);
    return true;
  };
const reason =
  (wanted: string): Happening =>
  (port) =>
    port.objects.get(key)?.status?.conditions?.some(({ type, reason }) => type === "Ready" && reason === wanted) ??
    false;
const edit = (spec: Parameters<FakePort["edit"]>[1]) => (port: FakePort) => port.edit(key, spec);
const ends =
  (command: Command, error: Parameters<typeof report>[1], times: number): Script =>
  (spec, nth) =>
    spec.command === command && nth <= times ? { state: "failed", reports: [report(command, error)] } : undefined;
const lost =
  (command: Command, times: number): Script =>
  (spec, nth) =>
    spec.command === command && nth <= times ? { state: "complete", reports: [undefined] } : undefined;

const unreachable = {
  error: { class: "waiting", reason: "SourceUnreachable", message: "no answer from https://fhir.example.org/r4" },
} as const;
const denied = { error: { class: "terminal", reason: "SourceUnauthorized", message: "401" } } as const;
const complete = ["Complete", "Accepted", "Complete", "Exact", "Ready"];
const failed = ["Failed", "Accepted", "Failed", "Stalled"];
const cancelled = ["Cancelled", "Accepted", "Cancelled", "Purged", "Stalled"];

export const scenarios: Scenario[] = [
  { name: "plan, export, seal", make: place(), end: complete },
  {
    name: "sealed by the plan's pod",
    make: place({}, ({ command }) =>
      command === "plan"
        ? { reports: [report("plan", { packages: 0, totals: { files: 1, resources: 1, bytes: 9, errors: 0 } })] }
        : undefined,
    ),
    end: complete,
  },
  {
    name: "errors in the output, not exact",
    make: place({}, ({ command }) =>
      command === "seal"
        ? { reports: [report("seal", { exact: false, totals: { files: 1, resources: 1, bytes: 9, errors: 2 } })] }
        : undefined,
    ),
    end: ["Complete", "Accepted", "Complete", "PartialErrors", "Ready"],
  },
  {
    name: "suspended and resumed while planning",
    make: place(),
    happenings: [when(active("plan"), edit({ suspend: true })), when(reason("Suspended"), edit({ suspend: false }))],
    end: complete,
  },
  {
    name: "suspended and resumed while exporting",
    make: place(),
    happenings: [when(active("export"), edit({ suspend: true })), when(reason("Suspended"), edit({ suspend: false }))],
    end: complete,
  },
  {
    name: "suspended and resumed while sealing",
    make: place(),
    happenings: [when(active("seal"), edit({ suspend: true })), when(reason("Suspended"), edit({ suspend: false }))],
    end: complete,
  },
  {
    name: "made suspended",
    make: place({ suspend: true }),
    happenings: [when(reason("Suspended"), edit({ suspend: false }))],
    end: complete,
  },
  {
    name: "suspended in a Kueue queue",
    make: place({ queueName: "q" }),
    happenings: [
      when(() => true, unsuspend),
      when(active("plan"), edit({ suspend: true })),
      when(reason("Suspended"), edit({ suspend: false })),
      when(queued("plan"), unsuspend),
      when(queued("export"), unsuspend),
      when(queued("seal"), unsuspend),
    ],
    end: complete,
  },
  {
    name: "cancelled before it starts",
    make: place({ cancel: true }),
    end: ["Cancelled", "Cancelled", "Purged", "Stalled"],
  },
  {
    name: "cancelled while planning",
    make: place(),
    happenings: [when(active("plan"), edit({ cancel: true }))],
    end: cancelled,
  },
  {
    name: "cancelled while exporting",
    make: place(),
    happenings: [when(active("export"), edit({ cancel: true }))],
    end: cancelled,
  },
  {
    name: "cancelled while sealing",
    make: place(),
    happenings: [when(active("seal"), edit({ cancel: true }))],
    end: cancelled,
  },
  {
    name: "cancelled while suspended",
    make: place(),
    happenings: [when(active("export"), edit({ suspend: true })), when(reason("Suspended"), edit({ cancel: true }))],
    end: cancelled,
  },
  {
    name: "cancelled, files kept",
    make: place({ onCancel: "Keep" }),
    happenings: [when(active("export"), edit({ cancel: true }))],
    end: ["Cancelled", "Accepted", "Cancelled", "Stalled"],
  },
  {
    name: "cancelled when complete",
    make: place(),
    happenings: [when(reason("Complete"), edit({ cancel: true }))],
    end: ["Complete", "Accepted", "Complete", "Exact", "Purged", "Ready"],
  },
  {
    name: "cancelled when failed",
    make: place({}, ends("export", denied, 9)),
    happenings: [when(reason("Failed"), edit({ cancel: true }))],
    end: ["Failed", "Accepted", "Failed", "Purged", "Stalled"],
  },
  {
    name: "the purge waits for the storage",
    make: place(
      {},
      ends("purge", { error: { class: "waiting", reason: "TargetUnreachable", message: "no answer" } }, 3),
    ),
    happenings: [when(active("export"), edit({ cancel: true }))],
    end: cancelled,
  },
  {
    name: "the purge is refused",
    make: place({}, ends("purge", { error: { class: "terminal", reason: "TargetUnauthorized", message: "403" } }, 9)),
    happenings: [when(active("export"), edit({ cancel: true }))],
    end: ["Cancelled", "Accepted", "Cancelled", "Reconciling"],
  },
  {
    name: "the purge loses its report",
    make: place({}, lost("purge", 1)),
    happenings: [when(active("export"), edit({ cancel: true }))],
    end: cancelled,
  },
  { name: "the source denies: failed", make: place({}, ends("plan", denied, 9)), end: failed },
  {
    name: "an export run is refused, then tried again",
    make: place({}, ({ command, attempt }) =>
      command === "export" && attempt === 1
        ? { state: "failed", reason: "PodFailurePolicy", reports: [undefined, report("export", denied)] }
        : undefined,
    ),
    happenings: [when(reason("Failed"), edit({ retry: 1 }))],
    end: complete,
  },
  {
    name: "retry grew while it still ran",
    make: place({}, ({ command, attempt }) =>
      command === "export" && attempt === 1 ? { state: "failed", reports: [report("export", denied)] } : undefined,
    ),
    happenings: [when(active("export"), edit({ retry: 1 }))],
    end: complete,
  },
  { name: "the source is away for three plans", make: place({}, ends("plan", unreachable, 3)), end: complete },
  { name: "the source is away for two export runs", make: place({}, ends("export", unreachable, 2)), end: complete },
  {
    name: "the source stays away until the deadline",
    make: place({ activeDeadlineSeconds: 3600 }, ends("plan", unreachable, 99)),
    end: failed,
  },
  { name: "the plan loses its report once", make: place({}, lost("plan", 1)), end: complete },
  { name: "the seal loses its report twice", make: place({}, lost("seal", 2)), end: complete },
  {
    name: "the plan crashes for ever",
    make: place({}, (spec) =>
      spec.command === "plan" ? { state: "failed", reason: "BackoffLimitExceeded", reports: [undefined] } : undefined,
    ),
    end: failed,
  },
  {
    name: "export pods crash until the Job gives up",
    make: place({}, (spec) =>
      spec.command === "export" ? { state: "failed", reason: "FailedIndexes", reports: [undefined] } : undefined,
    ),
    end: failed,
  },
  {
    name: "a hanging run is ended by the deadline",
    make: place({ activeDeadlineSeconds: 600 }, (spec) =>
      spec.command === "export" ? { state: "active" } : undefined,
    ),
    settings: { progressSeconds: 300 },
    end: failed,
  },
  { name: "refused: an illegal container", make: place({ container: "other" }), end: ["Refused", "Failed", "Stalled"] },
  {
    name: "refused: a filter with a result parameter",
    make: place({ typeFilters: ["Patient?_sort=name"] }),
    end: ["Refused", "Failed", "Stalled"],
  },
  {
    name: "refused, then the target allows it and it is tried again",
    make: place({ container: "other" }),
    happenings: [
      when(reason("Refused"), (port) => {
        port.target = makeTarget({
          azureBlob: { accountURL: "https://a.example", allowedContainers: ["*"], auth: { sasRef: { name: "sas" } } },
        });
        port.edit(key, { retry: 1 });
      }),
    ],
    end: complete,
  },
  {
    name: "its source comes later",
    make: () => {
      const port = place()();
      port.source = undefined;
      return port;
    },
    happenings: [
      when(reason("Waiting"), (port) => {
        port.source = makeSource();
      }),
    ],
    end: complete,
  },
  {
    name: "its source goes while it runs",
    make: place(),
    happenings: [
      when(active("export"), (port) => {
        port.source = undefined;
      }),
    ],
    end: complete,
  },
  {
    name: "not started in time",
    make: () => {
      const port = place({ startDeadlineSeconds: 100 })();
      port.source = undefined;
      return port;
    },
    end: ["Failed", "Failed", "Stalled"],
  },
  {
    name: "deleted while exporting, files too",
    make: place({ deletionPolicy: "Delete" }),
    happenings: [when(active("export"), remove)],
    end: undefined,
    did: "delete export, its files before it",
  },
  {
    name: "deleted when complete, files too, the storage refuses twice",
    make: place(
      { deletionPolicy: "Delete" },
      ends("purge", { error: { class: "terminal", reason: "TargetUnauthorized", message: "403" } }, 2),
    ),
    happenings: [when(reason("Complete"), remove)],
    end: undefined,
    did: "delete export, its files before it",
  },
  {
    name: "deletionPolicy is changed to Retain before it is deleted",
    make: place({ deletionPolicy: "Delete" }),
    happenings: [when(reason("Complete"), edit({ deletionPolicy: "Retain" })), remove],
    end: undefined,
  },
  {
    name: "its time to live ends",
    make: place({ ttlSecondsAfterFinished: 600 }),
    end: undefined,
    did: "delete export",
  },
  {
    name: "its time to live ends, files too",
    make: place({ ttlSecondsAfterFinished: 600, deletionPolicy: "Delete" }),
    end: undefined,
    did: "delete export, its files before it",
  },
  {
    name: "restored from a backup without status",
    make: () => {
      const port = new FakePort();
      const object = makeExport();
      object.metadata.annotations = { [annotations.outcome]: "Complete" };
      port.add(object);
      return port;
    },
    end: ["Complete", "Accepted", "Complete", "Ready"],
  },
  {
    name: "restored without status after a failure",
    make: () => {
      const port = new FakePort();
      const object = makeExport();
      object.metadata.annotations = { [annotations.outcome]: "Failed/2" };
      port.add(object);
      return port;
    },
    end: complete.slice(0, 0).concat(["Failed", "Failed", "Stalled"]),
  },
];

function remove(port: FakePort): boolean {
  const object = port.objects.get(key);
  if (!object) return false;
  if (!object.metadata.finalizers?.length) port.objects.delete(key);
  else object.metadata.deletionTimestamp = "2026-03-05T00:00:00Z";
  return true;
}
function queued(command: Command): Happening {
  return (port) => [...port.runs.values()].some((run) => run.spec.command === command && run.state === "suspended");
}
/** Kueue has room for the run. */
function unsuspend(port: FakePort): void {
  for (const run of port.runs.values()) if (run.state === "suspended") Object.assign(run, { state: "active", live: 1 });
}
