/** To come. */
export function StatisticsPage() {
  return null;
}
