// How a worker's Node is started.

/** V8 does not count the pieces in which pages arrive as garbage of its young generation. A small young generation is
 *  collected often enough that they never force a full collection, which would cost a tenth of a worker's time and 15
 *  MiB. V8 reads the flag only when the process starts. */
export const workerNodeOptions = "--max-semi-space-size=1";

/** V8 begins with a small heap and collects all of it about forty times before it has grown, which takes a fifth of a
 *  worker's first seconds. A heap that begins with 48 MB avoids that and takes no more memory than a worker uses
 *  anyway. Node takes this flag only as an argument, not in NODE_OPTIONS, so the image has it in its ENTRYPOINT. */
export const nodeFlags: readonly string[] = ["--initial-heap-size=48"];
