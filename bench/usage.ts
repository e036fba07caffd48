/** Loaded before a measured process (`--import`): when the process exits, writes the CPU time and memory that it used
 *  to the file that BENCH_USAGE names. */
import { writeFileSync } from "node:fs";

export interface Usage {
  cpuSeconds: number;
  rssMiB: number;
}

process.on("exit", () => {
  const { userCPUTime, systemCPUTime, maxRSS } = process.resourceUsage();
  const usage: Usage = { cpuSeconds: (userCPUTime + systemCPUTime) / 1e6, rssMiB: maxRSS / 1024 };
  writeFileSync(process.env.BENCH_USAGE!, JSON.stringify(usage));
});
