// Before the first paint: the theme that was chosen, where it is not the system's.
const theme = localStorage.getItem('console-theme');
if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
