/** The pages that the Worker itself writes: a sentence or two and one link. The console's own files are in console/. */
import { html } from 'hono/html';

/** A page that says something, in Chinese and in English, and leads on. */
export function messagePage(page: {
  title: string;
  texts: string[];
  /** A path of this host. */
  href: string;
  label: string;
}) {
  const { title, texts, href, label } = page;
  return html`<!doctype html>
<html lang="zh-CN">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${title}</title>
</head>
<body>
<h1>${title}</h1>
${texts.map(
  (text) => html`<p>${text}</p>
`,
)}<p><a href="${href}">${label}</a></p>
</body>
</html>
`;
}
