/** Starts the console: language and session first, so that nothing is shown twice. */
import './styles.css';
import { render } from 'preact';
import { askAhead } from './api';
import { App } from './app';
import { startKeys } from './keys';
import { pathOf } from './payments/list';
import { place, startRouter } from './router';
import { startSession } from './session';
import { startTexts } from './texts';

const root = document.querySelector('#console');
if (!root) throw new Error('index.html has the place for the console');

startKeys();
// preact renders in a microtask; by the next frame the page of the new place is there.
startRouter(() => new Promise((resolve) => requestAnimationFrame(() => resolve())));
// The first page needs no more than its address; whose session it is can be asked at the same time.
if (/^\/console(\/payments)?\/?$/.test(location.pathname) && location.hash === '') {
  askAhead(pathOf(place.peek()));
}
const started = startSession();
await startTexts();
render(<App />, root);
await started;
