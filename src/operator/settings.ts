/** What the place that runs the operator sets for all exports: the flags of the operator, or standalone's defaults. */
export interface Settings {
  /** the image of the worker pods; absent where workers are processes */
  image?: string;
  /** how many resources a shard should have */
  shardResources: number;
  /** An export of fewer resources is exported and sealed by the pod of its plan. 0 = none is. */
  inlineResources: number;
  /** how long a worker repeats a failing request before its pod gives up */
  retrySeconds: number;
  /** how often progress is published; each time is one status write */
  progressSeconds: number;
  /** the most exports at a time over all sources; absent = no limit */
  maxExports?: number;
  /** An export that was started over HTTP stays this long after its expiration, so that downloads that run then can
   *  end. No new download begins meanwhile. */
  downloadGraceSeconds: number;
  /** the folder in which a worker finds the volume of a target */
  volumeRoot: string;
}

export const defaultSettings: Settings = {
  shardResources: 100_000,
  inlineResources: 200_000,
  retrySeconds: 600,
  progressSeconds: 30,
  downloadGraceSeconds: 3600,
  volumeRoot: "/export",
};
