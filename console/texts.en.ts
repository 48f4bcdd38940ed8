import { type Texts, zh } from './texts';
export const en = zh satisfies Texts;
