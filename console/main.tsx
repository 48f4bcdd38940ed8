import { render } from 'preact';

const root = document.querySelector('#console');
if (root) render(<h1>支付管理</h1>, root);
