// The admin door as the page uses it. The token is kept for this tab alone, and goes nowhere but into a header.

const KEY = "rayscore.token";

/** What the server's answer comes to: {kind: good, busy or bad, words, locked: the token is not right any more}. */
export class Door {
  get token() {
    return sessionStorage.getItem(KEY);
  }

  lock() {
    sessionStorage.removeItem(KEY);
  }

  /** Try a token, and keep it where it opens the door. */
  async unlock(token) {
    const answer = await ask("GET", "rules", token);
    if (answer.status === 200) {
      sessionStorage.setItem(KEY, token);
      return { kind: "good", words: "Unlocked for this tab." };
    }
    return refusedWords(answer);
  }

  /** Ask for a change. */
  async act(name, told) {
    const answer = await ask("POST", name, this.token, told);
    if (answer.status === 401) this.lock();
    return inWords(answer);
  }
}

async function ask(method, name, token, told) {
  // A header takes no other characters, and no such token opens the door.
  if (!/^[\x20-\x7e]+$/.test(token ?? "")) return { status: 401, said: {} };
  try {
    const response = await fetch(`admin/${name}`, {
      method,
      headers: { authorization: `Bearer ${token}` },
      body: told === undefined ? undefined : JSON.stringify(told),
      cache: "no-store",
      signal: AbortSignal.timeout(20_000),
    });
    return { status: response.status, said: await response.json().catch(() => ({})) };
  } catch {
    return { status: 0, said: {} };
  }
}

function inWords({ status, said }) {
  if (status === 200) return { kind: "good", words: `In force as epoch ${said.epoch}, on every replica that answers.` };
  if (status === 202) {
    return { kind: "busy", words: "Still being prepared: not every replica holds the version yet. The page shows what becomes of it." };
  }
  if (status === 409) {
    return { kind: "bad", words: `Nothing was changed: ${said.reason}. Look at the traffic as it is now (epoch ${said.epoch}), and decide again.` };
  }
  if (status === 422) return { kind: "bad", words: `Refused, nothing was changed: ${said.reason ?? said.detail}.` };
  return refusedWords({ status, said });
}

function refusedWords({ status, said }) {
  if (status === 401) return { kind: "bad", words: "This is not the token that RAYSCORE_ADMIN_TOKEN holds.", locked: true };
  if (status === 403) return { kind: "bad", words: "The admin door is closed: the service was started without RAYSCORE_ADMIN_TOKEN.", locked: true };
  if (status === 429) return { kind: "bad", words: "Too many requests, or wrong tokens. Try again in a second." };
  if (status === 0 || status === 503) {
    return { kind: "bad", words: "Control does not answer. Whether anything was changed shows when it is back; predictions go on." };
  }
  return { kind: "bad", words: `${said.title ?? `Status ${status}`}: ${said.detail ?? "no more is known"}` };
}
