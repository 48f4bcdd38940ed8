/**
 * The public keys of the identity provider (JWKS), kept per isolate. A key that the provider has
 * just begun to sign with is fetched when its first token arrives; unknown keys cause one such fetch
 * a minute at most, so that forged tokens cannot be used to flood the provider. While the provider
 * is down, the keys that are known go on being used.
 */
import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTVerifyGetKey } from 'jose';
import { ApiError } from './http';
import { describeError, writeLog } from './log';

/** After this a key that the provider has withdrawn is no longer accepted. */
const FRESH_MS = 600_000;

/** The least time between two fetches that unknown keys cause, and between two that failed. */
const RETRY_MS = 60_000;

const FETCH_TIMEOUT_MS = 5_000;

type KeySet = ReturnType<typeof createLocalJWKSet>;

interface Provider {
  keys?: KeySet;
  fetchedAt: number;
  /** When an unknown key last caused a fetch. */
  askedAt: number;
  /** The fetch under way, for all requests that wait for it. */
  pending?: Promise<KeySet> | undefined;
}

const providers = new Map<string, Provider>();

/**
 * Finds the key of a token among those at `url`. A fetch goes on in `waitUntil` when the request
 * that began it is gone, because others may be waiting for it. Throws ApiError 50301 when there are
 * no keys to be had at all.
 */
export function providerKey(
  url: string,
  waitUntil: (work: Promise<unknown>) => void,
): JWTVerifyGetKey {
  const provider = providers.get(url) ?? { fetchedAt: 0, askedAt: 0 };
  providers.set(url, provider);

  return async (header, token) => {
    const keys = await currentKeys();
    try {
      return await keys(header, token);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
      const newer = await newerKeys(keys);
      if (!newer) throw error;
      return await newer(header, token);
    }
  };

  async function currentKeys(): Promise<KeySet> {
    const { keys, fetchedAt } = provider;
    if (keys && Date.now() - fetchedAt < FRESH_MS) return keys;
    try {
      return await refresh();
    } catch (error) {
      if (!keys) throw new ApiError(50301, null, error);
      writeLog('error', 'provider_keys_stale', { error: describeError(error) });
      // Not every request waits for a provider that is down: the next one to try comes in a minute.
      provider.fetchedAt = Date.now() - FRESH_MS + RETRY_MS;
      return keys;
    }
  }

  /** Keys fetched after these, or null when it is too early to ask again. */
  async function newerKeys(known: KeySet): Promise<KeySet | null> {
    if (provider.keys && provider.keys !== known) return provider.keys;
    if (!provider.pending) {
      if (Date.now() - provider.askedAt < RETRY_MS) return null;
      provider.askedAt = Date.now();
    }
    return refresh().catch((error: unknown) => {
      writeLog('error', 'provider_keys_failed', { error: describeError(error) });
      return null;
    });
  }

  function refresh(): Promise<KeySet> {
    provider.pending ??= fetchKeys(url)
      .then((keys) => {
        provider.keys = keys;
        provider.fetchedAt = Date.now();
        return keys;
      })
      .finally(() => {
        provider.pending = undefined;
      });
    waitUntil(provider.pending.catch(() => {}));
    return provider.pending;
  }
}

async function fetchKeys(url: string): Promise<KeySet> {
  const response = await fetch(url, { signal: AbortSignal.timeout(FETCH_TIMEOUT_MS) });
  if (!response.ok) throw new Error(`the JWKS endpoint answered ${response.status}`);
  const keys: JSONWebKeySet = await response.json();
  return createLocalJWKSet(keys);
}
