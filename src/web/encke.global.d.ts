// The build for a <script>: the class is a global.

import type { Encke as Client } from './encke.js';

declare global {
  const Encke: typeof Client;
  type Encke = Client;
}
