import type { BlockBlobClient } from "@azure/storage-blob";
import { withoutTrailingSlash } from "../url.ts";
import type { Account, AzureBlob } from "./azure-account.ts";
import { isStatus, storageFailure } from "./azure-errors.ts";

/** The folder of one export in its container: names its blobs, and makes every call to storage. */
export class AzureFolder {
  readonly target: AzureBlob;
  readonly account: Account;
  /** What the names of the export's blobs begin with: empty, or with `/` at its end. */
  readonly prefix: string;

  constructor(target: AzureBlob, folder: string, account: Account) {
    this.target = target;
    this.account = account;
    this.prefix = folder === "" ? "" : `${withoutTrailingSlash(folder)}/`;
  }

  blob(path: string): BlockBlobClient {
    return this.account.container.getBlockBlobClient(this.prefix + path);
  }

  /** Makes a call to storage. A call that storage refuses is made once more where the Secret holds a new credential by
   *  now.
   *  @throws FailureError, as `Store` says */
  async call<T>(request: () => Promise<T>): Promise<T> {
    const { signedBy } = this.account;
    try {
      return await request().catch(async (error) => {
        if (isStatus(error, 401, 403) && (await this.account.renew(signedBy))) return request();
        throw error;
      });
    } catch (error) {
      throw storageFailure(error, this.target.container);
    }
  }
}
