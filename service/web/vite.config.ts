// The build of the page. The names of the files in built/ never change, so that a rebuild is a small difference in git;
// the server sends each with an ETag of its bytes. Nothing here depends on the machine or on the time: CI compares the bytes.
import { defineConfig } from "vite";

export default defineConfig({
  base: "./",
  resolve: {
    alias: {
      "react/jsx-runtime": "preact/jsx-runtime",
      "react-dom/test-utils": "preact/test-utils",
      "react-dom": "preact/compat",
      react: "preact/compat",
    },
    dedupe: ["preact"],
  },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  worker: { format: "es", rolldownOptions: { output: { entryFileNames: "page/[name].js" } } },
  build: {
    outDir: "built",
    emptyOutDir: true,
    target: "es2022",
    // The page's policy allows files of this server alone: nothing is inlined as a data URL.
    assetsInlineLimit: 0,
    modulePreload: false,
    reportCompressedSize: false,
    cssCodeSplit: false,
    rolldownOptions: {
      onLog(level, log, write) {
        // React Flow's mark for servers that render React; it means nothing here.
        if (log.code !== "MODULE_LEVEL_DIRECTIVE") write(level, log);
      },
      output: {
        entryFileNames: "page/app.js",
        chunkFileNames: "page/[name].js",
        assetFileNames: "page/[name][extname]",
      },
    },
  },
  server: { proxy: { "/v1": "http://127.0.0.1:8000", "/openapi.json": "http://127.0.0.1:8000" } },
});
