/** What the place that runs the operator sets for all exports. */
export interface Settings {
  /** image of the worker pods; none where workers are processes */
  image?: string;
  /** resources that a shard should have */
  shardResources: number;
  /** exports below so many resources are run and sealed by the plan's pod; 0 = none */
  inlineResources: number;
  /** how long a worker repeats a failing request before it gives its pod up */
  retrySeconds: number;
  /** how often progress is published: each time is one status write */
  progressSeconds: number;
  /** exports at once over all sources; unlimited when absent */
  maxExports?: number;
  /** an export that was started over HTTP stays so long after its expiration, when nobody gets at its files any more, for downloads that run then */
  downloadGraceSeconds: number;
  /** where a worker finds the volume of a target */
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
