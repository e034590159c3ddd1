import { defineConfig } from "vite";

// Everything is served by the console itself, from ../static. Names have hashes, so that a browser
// may keep them; the page that names them is asked for each time.
export default defineConfig({
  base: "/",
  build: {
    outDir: "../static",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: "es2022",
  },
});
