/**
 * The public keys of the identity provider (JWKS), kept per isolate. A key that the provider has
 * just begun to sign with is fetched when its first token arrives; unknown keys cause one such fetch
 * a minute at most, so that forged tokens cannot be used to flood the provider. While the provider
 * is down, the keys that are known go on being used for an hour.
 */
import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTVerifyGetKey } from 'jose';
import { ApiError } from './http';
import { describeError, writeLog } from './log';

/** After this the keys are fetched again, and one that the provider has withdrawn is forgotten. */
const FRESH_MS = 600_000;

/** After this keys are not used any more, even if the provider cannot be asked. */
const STALE_MS = 3_600_000;

/** The least time between two fetches that unknown keys cause. */
const UNKNOWN_KEY_MS = 60_000;

/** How long after a failed fetch nobody tries again: every request would wait for it. */
const FAILED_MS = 10_000;

const FETCH_TIMEOUT_MS = 5_000;

type KeySet = ReturnType<typeof createLocalJWKSet>;

interface Provider {
  keys?: KeySet;
  fetchedAt: number;
  failedAt: number;
  /** When an unknown key last caused a fetch. */
  askedAt: number;
  /** The fetch under way, for all requests that wait for it, and when it began. */
  pending?: Promise<KeySet> | undefined;
  pendingSince: number;
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
  const provider = providers.get(url) ?? {
    fetchedAt: 0,
    failedAt: 0,
    askedAt: 0,
    pendingSince: 0,
  };
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
    const { keys, fetchedAt, failedAt } = provider;
    if (keys && Date.now() - fetchedAt < FRESH_MS) return keys;
    const usable = Date.now() - fetchedAt < STALE_MS ? keys : undefined;
    try {
      if (Date.now() - failedAt < FAILED_MS) throw new Error('the JWKS could not be had just now');
      return await refresh();
    } catch (error) {
      if (!usable) throw new ApiError(50301, null, error);
      writeLog('error', 'provider_keys_stale', { error: describeError(error) });
      return usable;
    }
  }

  /** Keys fetched after these, or null when it is too early to ask again. */
  async function newerKeys(known: KeySet): Promise<KeySet | null> {
    if (provider.keys && provider.keys !== known) return provider.keys;
    if (!provider.pending) {
      if (Date.now() - provider.askedAt < UNKNOWN_KEY_MS) return null;
      provider.askedAt = Date.now();
    }
    return refresh().catch((error: unknown) => {
      writeLog('error', 'provider_keys_failed', { error: describeError(error) });
      return null;
    });
  }

  function refresh(): Promise<KeySet> {
    // One that is older than its time-out belongs to a request that was killed, and will never end.
    if (provider.pending && Date.now() - provider.pendingSince < FETCH_TIMEOUT_MS) {
      return provider.pending;
    }
    const pending = fetchKeys(url)
      .then((keys) => {
        provider.keys = keys;
        provider.fetchedAt = Date.now();
        return keys;
      })
      .catch((error: unknown) => {
        provider.failedAt = Date.now();
        throw error;
      })
      .finally(() => {
        if (provider.pending === pending) provider.pending = undefined;
      });
    provider.pending = pending;
    provider.pendingSince = Date.now();
    waitUntil(pending.catch(() => {}));
    return pending;
  }
}

async function fetchKeys(url: string): Promise<KeySet> {
  const response = await fetch(url, { signal: AbortSignal.timeout(FETCH_TIMEOUT_MS) });
  if (!response.ok) throw new Error(`the JWKS endpoint answered ${response.status}`);
  const keys: JSONWebKeySet = await response.json();
  return createLocalJWKSet(keys);
}
