// Signs and verifies with jose: `mint` and `verify`, JSON on standard input and output. Its keys to sign with are its
// own, and their public halves come out as a JWKS.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const jose = createRequire(`${process.env.AUTH_INTEROP}/js/`)("jose");
const request = JSON.parse(readFileSync(0, "utf8"));
const bytes = (text) => new TextEncoder().encode(text);
const isShared = (name) => name.startsWith("HS");

async function mint() {
  const answer = { jwks: {}, tokens: {} };
  for (const [name, key] of Object.entries(request.keys)) {
    const pair = isShared(name) ? null : await jose.generateKeyPair(name, { extractable: true });
    const jwk = await jose.exportJWK(pair ? pair.publicKey : bytes(key.private));
    answer.jwks[name] = { keys: [{ ...jwk, alg: name, kid: "key-1", use: "sig" }] };
    answer.tokens[name] = await new jose.SignJWT(request.claims)
      .setProtectedHeader({ alg: name, typ: "at+jwt", kid: "key-1" })
      .sign(pair ? pair.privateKey : bytes(key.private));
  }
  return answer;
}

async function verify() {
  const answer = {};
  for (const [name, key] of Object.entries(request.keys)) {
    const found = isShared(name) ? bytes(key.public) : await jose.importSPKI(key.public, name);
    const { audience, issuer } = { audience: request.claims.aud, issuer: request.claims.iss };
    const options = { algorithms: [name], audience, issuer, typ: "at+jwt", requiredClaims: ["exp", "iat", "sub"] };
    answer[name] = (await jose.jwtVerify(request.tokens[name], found, options)).payload.sub;
  }
  return answer;
}

process.stdout.write(JSON.stringify(await { mint, verify }[process.argv[2]]()));
