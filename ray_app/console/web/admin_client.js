// Client of the admin routes. The token is kept in this tab's session storage and sent only as the authorization header.

const KEY = "rayscore.token";

/** Results are {kind: good, busy or bad, words, locked}; `locked` is true when the token is not valid (any more). */
export class AdminClient {
  get token() {
    return sessionStorage.getItem(KEY);
  }

  lock() {
    sessionStorage.removeItem(KEY);
  }

  /** Check a token with the service, and keep it when it is valid. */
  async unlock(token) {
    const answer = await ask("GET", "rules", token);
    if (answer.status === 200) {
      sessionStorage.setItem(KEY, token);
      return { kind: "good", words: "Unlocked for this tab." };
    }
    return refusedWords(answer);
  }

  /** Request a change of the traffic rules: `name` is the route below admin/, `body` its JSON. */
  async act(name, body) {
    const answer = await ask("POST", name, this.token, body);
    if (answer.status === 401) this.lock();
    return inWords(answer);
  }
}

async function ask(method, name, token, body) {
  // fetch throws on other characters in a header, which would look like an unreachable service; and no token has them.
  if (!/^[\x20-\x7e]+$/.test(token ?? "")) return { status: 401, reply: {} };
  try {
    const response = await fetch(`admin/${name}`, {
      method,
      headers: { authorization: `Bearer ${token}` },
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      signal: AbortSignal.timeout(20_000),
    });
    return { status: response.status, reply: await response.json().catch(() => ({})) };
  } catch {
    return { status: 0, reply: {} };
  }
}

function inWords({ status, reply }) {
  if (status === 200) return { kind: "good", words: `In force as epoch ${reply.epoch}, on every replica that answers.` };
  if (status === 202) {
    return { kind: "busy", words: "Still being prepared: not every replica holds the version yet. The page shows what becomes of it." };
  }
  if (status === 409) {
    return { kind: "bad", words: `Nothing was changed: ${reply.reason}. Look at the traffic as it is now (epoch ${reply.epoch}), and decide again.` };
  }
  if (status === 422) return { kind: "bad", words: `Refused, nothing was changed: ${reply.reason ?? reply.detail}.` };
  return refusedWords({ status, reply });
}

function refusedWords({ status, reply }) {
  if (status === 401) return { kind: "bad", words: "This is not the token that RAYSCORE_ADMIN_TOKEN holds.", locked: true };
  if (status === 403) return { kind: "bad", words: "The admin API is closed: the service was started without RAYSCORE_ADMIN_TOKEN.", locked: true };
  if (status === 429) return { kind: "bad", words: "Too many requests, or wrong tokens. Try again in a second." };
  if (status === 0 || status === 503) {
    return { kind: "bad", words: "Control does not answer. Whether anything was changed shows when it is back; predictions go on." };
  }
  return { kind: "bad", words: `${reply.title ?? `Status ${status}`}: ${reply.detail ?? "no more is known"}` };
}
