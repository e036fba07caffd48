/** Loaded into the test processes of `npm run test:quick`. A file that starts a program fails here, even if needs.ts
 *  took it for quick. */
import childProcess from "node:child_process";
import { syncBuiltinESMExports } from "node:module";

for (const name of ["spawn", "spawnSync", "exec", "execSync", "execFile", "execFileSync", "fork"] as const)
  childProcess[name] = (() => {
    throw new Error(
      `npm run test:quick runs only files that start no programs; this one calls ${name}: see test/tools/needs.ts`,
    );
  }) as never;
syncBuiltinESMExports();
