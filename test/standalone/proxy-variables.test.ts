import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type NamedProxy, proxyFor } from "../../src/standalone/proxy-variables.ts";

const url = "http://proxy.example.org:3128";

describe("the proxy that the environment names", () => {
  const cases: [name: string, server: string, env: NodeJS.ProcessEnv, expected: NamedProxy | undefined][] = [
    ["none", "https://fhir.example.org/r4", {}, undefined],
    ["for https", "https://fhir.example.org/r4", { HTTPS_PROXY: url }, { url }],
    ["for https only", "http://fhir.example.org/r4", { HTTPS_PROXY: url }, undefined],
    ["for http", "http://fhir.example.org/r4", { HTTP_PROXY: url }, { url }],
    ["small letters first", "http://a.example/r4", { http_proxy: url, HTTP_PROXY: "http://b.example" }, { url }],
    ["an empty one is none", "http://a.example/r4", { HTTP_PROXY: "" }, undefined],
    ["without a scheme", "http://a.example/r4", { HTTP_PROXY: "proxy.example.org:3128" }, { url }],
    [
      "with user and password, which are not in the URL",
      "https://a.example/r4",
      { HTTPS_PROXY: "http://me:p%40ss@proxy.example.org:3128/" },
      { url, signIn: { username: "me", password: "p@ss" } },
    ],
    ["the host is excepted", "https://a.example/r4", { HTTPS_PROXY: url, NO_PROXY: "b.example,a.example" }, undefined],
    ["a domain above it is", "https://x.a.example/r4", { HTTPS_PROXY: url, no_proxy: ".a.example" }, undefined],
    ["host and port are", "https://a.example:8443/r4", { HTTPS_PROXY: url, NO_PROXY: "a.example:8443" }, undefined],
    ["an address is", "http://[::1]:8080/r4", { HTTP_PROXY: url, NO_PROXY: "localhost ::1" }, undefined],
    ["all are", "https://a.example/r4", { HTTPS_PROXY: url, NO_PROXY: "*" }, undefined],
    ["another that ends alike is not", "https://ba.example/r4", { HTTPS_PROXY: url, NO_PROXY: "a.example" }, { url }],
  ];
  for (const [name, server, env, expected] of cases)
    test(name, () => assert.deepEqual(proxyFor(server, env), expected));

  test("what is no proxy is refused by name, and not shown", () => {
    const env = { HTTPS_PROXY: "socks5://me:secret@proxy.example.org" };
    assert.throws(
      () => proxyFor("https://a.example/r4", env),
      ({ message }: Error) => {
        assert.match(message, /HTTPS_PROXY must be/);
        assert.doesNotMatch(message, /secret/);
        return true;
      },
    );
  });
});
