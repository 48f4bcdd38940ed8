/** To come. */
export function AttentionPage() {
  return null;
}
