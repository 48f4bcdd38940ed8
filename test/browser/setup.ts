/**
 * What the browser tests of one run share: a browser, the console built once, and a real `wrangler dev` over a
 * PostgreSQL of its own with sample data and simulated gateways. It does not use test/global-setup.ts's PostgreSQL,
 * because vitest calls the setup of a project before the one of the root. All processes end with this one, however
 * that ends.
 */
import { type BrowserServer, chromium } from 'playwright-core';
import type { TestProject } from 'vitest/node';
import { launchChromium, NoBrowserError } from '../../dev/chromium.ts';
import { startTemporaryStack } from '../../dev/temporary-stack.ts';

export interface BrowserStack {
  /** Where the browser listens for playwright-core. */
  browser: string;
  worker: string;
  databaseUrl: string;
  /** The Neon endpoint's faults and counters for this database. */
  endpointControl: string;
  simulator: string;
  authSecret: string;
  /** What wrangler prints, the Worker's log included. */
  logFile: string;
}

declare module 'vitest' {
  interface ProvidedContext {
    /** Null where this machine has no browser. */
    browserStack: BrowserStack | null;
  }
}

export default async function setup(
  project: TestProject,
): Promise<(() => Promise<void>) | undefined> {
  const browser = await launch();
  project.provide('browserStack', null);
  if (browser === undefined) return;

  const parts: { stop(): Promise<unknown> }[] = [{ stop: () => browser.close() }];
  const stop = async () => {
    for (let part = parts.pop(); part; part = parts.pop()) await part.stop();
  };
  try {
    const { worker, databaseUrl, endpointControl, simulator, authSecret, logFile } =
      await startTemporaryStack('payments-browser-', (part) => void parts.push(part));
    project.provide('browserStack', {
      browser: browser.wsEndpoint(),
      worker: worker.url,
      databaseUrl,
      endpointControl,
      simulator: simulator.url,
      authSecret,
      logFile,
    });
    return stop;
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Undefined where there is no browser. CI has to have one. */
async function launch(): Promise<BrowserServer | undefined> {
  try {
    return await launchChromium((options) =>
      chromium.launchServer({
        ...options,
        host: '127.0.0.1',
        // It would end this process at once.
        handleSIGINT: false,
        handleSIGTERM: false,
        handleSIGHUP: false,
      }),
    );
  } catch (error) {
    if (!(error instanceof NoBrowserError) || process.env.CI) throw error;
    console.warn(`The tests in test/browser are skipped. ${error.message}`);
    return undefined;
  }
}
