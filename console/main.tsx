/** Starts the console: language and session first, so that nothing is shown twice. */
import './styles.css';
import { render } from 'preact';
import { App } from './app';
import { startKeys } from './keys';
import { startRouter } from './router';
import { startSession } from './session';
import { startTexts } from './texts';

const root = document.querySelector('#console');
if (!root) throw new Error('index.html has the place for the console');

startKeys();
// preact renders in a microtask; by the next frame the page of the new place is there.
startRouter(() => new Promise((resolve) => requestAnimationFrame(() => resolve())));
const started = startSession();
await startTexts();
render(<App />, root);
await started;
