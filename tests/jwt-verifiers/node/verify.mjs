// Tries jsonwebtoken and jose with the tokens of `drift-agent jwt cases`; prints one JSON line for each of the two.
import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";
import * as jose from "jose";
import jsonwebtoken from "jsonwebtoken";

const version = (name) => createRequire(import.meta.url)(`./node_modules/${name}/package.json`).version;
const now = () => Math.floor(Date.now() / 1000);

// "accept", "reject" for the library's own refusals, "fail" for anything else that it throws.
async function outcome(verify, isRefusal) {
  try {
    await verify();
    return "accept";
  } catch (error) {
    return isRefusal(error) ? "reject" : "fail";
  }
}

async function results({ key, leewaySeconds, cases }, verify, isRefusal) {
  const found = {};
  for (const { id, token } of cases) {
    const byDefault = await outcome(() => verify(token, key, undefined), isRefusal);
    found[id] = [byDefault, await outcome(() => verify(token, key, leewaySeconds), isRefusal)];
  }
  return found;
}

const verifiers = [
  {
    name: `jsonwebtoken ${version("jsonwebtoken")} (Node.js)`,
    verify: (token, key, leeway) =>
      jsonwebtoken.verify(token, key, { algorithms: ["HS256"], ...(leeway && { clockTolerance: leeway }) }),
    isRefusal: (error) => error instanceof jsonwebtoken.JsonWebTokenError,
  },
  {
    name: `jose ${version("jose")} (Node.js)`,
    verify: (token, key, leeway) =>
      jose.jwtVerify(token, key, { algorithms: ["HS256"], ...(leeway && { clockTolerance: leeway }) }),
    isRefusal: (error) => error instanceof jose.errors.JOSEError,
  },
];

for (const { name, verify, isRefusal } of verifiers) {
  for (;;) {
    const issued = JSON.parse(execFileSync(process.argv[2], ["jwt", "cases", "--output", "json"]));
    const found = await results({ ...issued, key: Buffer.from(issued.key, "base64url") }, verify, isRefusal);
    // Only what was tried in the second it was signed for counts: half of the cases are about that second.
    if (now() === Date.parse(issued.signedFor) / 1000) {
      console.log(JSON.stringify({ name, found }));
      break;
    }
  }
}
