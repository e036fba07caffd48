/** Loaded into the test processes of `npm run test:quick`: a file that starts a program is none of them, whatever its imports look like (needs.ts). */
import childProcess from "node:child_process";
import { syncBuiltinESMExports } from "node:module";

for (const name of ["spawn", "spawnSync", "exec", "execSync", "execFile", "execFileSync", "fork"] as const)
  childProcess[name] = (() => {
    throw new Error(
      `npm run test:quick runs only files that start no programs; this one calls ${name}: see test/tools/needs.ts`,
    );
  }) as never;
syncBuiltinESMExports();
