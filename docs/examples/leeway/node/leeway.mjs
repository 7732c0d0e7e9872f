// The leeway that drift-agent recommends on this node, in seconds: asked for at most once a minute.
const url = process.env.CLOCK_URL ?? 'http://drift-agent.drift-agent:10123/v1/clock'
let leeway = 5 // until the first answer
let askAgain = 0

export async function recommendedLeeway() {
  if (performance.now() >= askAgain) {
    askAgain = performance.now() + 60_000
    try {
      // 503 means that the clock is not measured: the answer still has a leeway.
      const answer = await fetch(url, { signal: AbortSignal.timeout(1_000) })
      const seconds = (await answer.json()).recommendedLeewaySeconds
      if (Number.isInteger(seconds) && seconds >= 0 && seconds <= 120) leeway = seconds
    } catch {
      // The last answer stands.
    }
  }
  return leeway
}
