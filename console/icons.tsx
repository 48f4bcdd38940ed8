/** Small drawings, so that no shape depends on a font. */
import type { ComponentChildren } from 'preact';

function Icon({ children, size = 16 }: { children: ComponentChildren; size?: number }) {
  return (
    <svg
      class="icon"
      width={size}
      height={size}
      viewBox="0 0 16 16"
      fill="none"
      stroke="currentColor"
      stroke-width="1.6"
      stroke-linecap="round"
      stroke-linejoin="round"
      aria-hidden="true"
    >
      {children}
    </svg>
  );
}

/** A shape for each status: it can be told without its colour. */
export const SHAPES = {
  waiting: (
    <Icon size={12}>
      <circle cx="8" cy="8" r="6.2" />
      <path d="M8 8V1.8A6.2 6.2 0 0 1 14.2 8z" fill="currentColor" stroke="none" />
    </Icon>
  ),
  good: (
    <Icon size={12}>
      <path d="M2.5 8.5l3.8 4L13.5 4" stroke-width="2.2" />
    </Icon>
  ),
  bad: (
    <Icon size={12}>
      <path d="M3.5 3.5l9 9M12.5 3.5l-9 9" stroke-width="2.2" />
    </Icon>
  ),
  returned: (
    <Icon size={12}>
      <path d="M5.5 2.5L2 6l3.5 3.5M2.5 6h7a4 4 0 0 1 0 8H7" stroke-width="2" />
    </Icon>
  ),
  running: (
    <Icon size={12}>
      <path d="M3 8h.01M8 8h.01M13 8h.01" stroke-width="3.4" />
    </Icon>
  ),
  partly: (
    <Icon size={12}>
      <circle cx="8" cy="8" r="6.2" />
      <path d="M8 1.8v12.4A6.2 6.2 0 0 1 8 1.8z" fill="currentColor" stroke="none" />
    </Icon>
  ),
  warning: (
    <Icon size={12}>
      <path d="M8 2v7.5M8 13.4h.01" stroke-width="2.4" />
    </Icon>
  ),
};

export const CopyIcon = () => (
  <Icon>
    <rect x="5.5" y="5.5" width="8" height="8" rx="1.5" />
    <path d="M10.5 2.5H4A1.5 1.5 0 0 0 2.5 4v6.5" />
  </Icon>
);

export const DoneIcon = () => (
  <Icon>
    <path d="M2.5 8.5l3.8 4L13.5 4" />
  </Icon>
);

export const SearchIcon = () => (
  <Icon>
    <circle cx="7" cy="7" r="4.5" />
    <path d="M10.5 10.5L14 14" />
  </Icon>
);

export const ThemeIcon = () => (
  <Icon>
    <circle cx="8" cy="8" r="6" />
    <path d="M8 2v12a6 6 0 0 0 0-12z" fill="currentColor" />
  </Icon>
);

export const PersonIcon = () => (
  <Icon>
    <circle cx="8" cy="5.2" r="2.7" />
    <path d="M2.8 14a5.2 5.2 0 0 1 10.4 0" />
  </Icon>
);
