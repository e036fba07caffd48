import { generateKeyPairSync, type KeyObject, randomBytes, sign } from "node:crypto";

/** A certificate with its key, in PEM. */
export interface Certificate {
  cert: string;
  key: string;
}

export interface Authority extends Certificate {
  /** a certificate for servers at 127.0.0.1 and localhost, or for a client */
  issue(name: string): Certificate;
}

/** A certificate authority for tests. It builds the DER itself, since Node can verify certificates but not make
 *  them. */
export function makeAuthority(name = "test authority"): Authority {
  const own = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const cert = certificate({ name, key: own.publicKey }, { name, key: own.privateKey }, true);
  return {
    cert,
    key: pem(own.privateKey),
    issue: (subject) => {
      const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
      return {
        cert: certificate({ name: subject, key: publicKey }, { name, key: own.privateKey }, false),
        key: pem(privateKey),
      };
    },
  };
}

const pem = (key: KeyObject) => key.export({ type: "pkcs8", format: "pem" }) as string;

interface Party {
  name: string;
  key: KeyObject;
}

/** @param subject with its public key
 *  @param issuer with its private key */
function certificate(subject: Party, issuer: Party, isAuthority: boolean): string {
  const ecdsaSha256 = sequence(oid(0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02));
  const day = 86_400_000;
  const extensions = [
    // basicConstraints
    extension([0x55, 0x1d, 0x13], sequence(...(isAuthority ? [der(0x01, Buffer.of(0xff))] : []))),
    // subjectAltName
    ...(isAuthority
      ? []
      : [
          extension(
            [0x55, 0x1d, 0x11],
            sequence(der(0x82, Buffer.from("localhost")), der(0x87, Buffer.of(127, 0, 0, 1))),
          ),
        ]),
  ];
  const body = sequence(
    der(0xa0, integer(Buffer.of(2))),
    integer(Buffer.concat([Buffer.of(1), randomBytes(8)])),
    ecdsaSha256,
    named(issuer.name),
    sequence(time(Date.now() - day), time(Date.now() + day)),
    named(subject.name),
    subject.key.export({ type: "spki", format: "der" }),
    der(0xa3, sequence(...extensions)),
  );
  const whole = sequence(body, ecdsaSha256, bits(sign("sha256", body, issuer.key)));
  return `-----BEGIN CERTIFICATE-----\n${whole
    .toString("base64")
    .match(/.{1,64}/g)!
    .join("\n")}\n-----END CERTIFICATE-----\n`;
}

function der(tag: number, content: Buffer): Buffer {
  const { length } = content;
  const size = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 255];
  return Buffer.concat([Buffer.from([tag, ...size]), content]);
}
const sequence = (...parts: Buffer[]) => der(0x30, Buffer.concat(parts));
const integer = (bytes: Buffer) => der(0x02, bytes);
const oid = (...bytes: number[]) => der(0x06, Buffer.from(bytes));
const bits = (bytes: Buffer) => der(0x03, Buffer.concat([Buffer.of(0), bytes]));
/** a time as UTCTime */
const time = (ms: number) =>
  der(0x17, Buffer.from(`${new Date(ms).toISOString().replace(/[-:T]/g, "").slice(2, 14)}Z`));
/** a Name that consists of one CN */
const named = (text: string) => sequence(der(0x31, sequence(oid(0x55, 0x04, 0x03), der(0x0c, Buffer.from(text)))));
const extension = (id: number[], value: Buffer) => sequence(oid(...id), der(0x04, value));
