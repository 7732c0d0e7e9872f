// node verify.mjs TOKEN: is it valid? The key is in KEY.
import { jwtVerify } from 'jose'
import { recommendedLeeway } from './leeway.mjs'

try {
  const { payload } = await jwtVerify(process.argv[2], new TextEncoder().encode(process.env.KEY), {
    algorithms: ['HS256'],
    requiredClaims: ['exp'],
    clockTolerance: await recommendedLeeway(),
  })
  console.log(`accepted: ${payload.sub}`)
} catch (error) {
  console.log(`refused: ${error.message}`)
  process.exitCode = 1
}
