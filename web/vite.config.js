// The dev server passes the API through to the port `run_dev.py` names; the build goes where the server serves it.
import { defineConfig } from "vite";

const api = process.env.DEV_API ?? "http://127.0.0.1:8000";

// Whatever a page may ask the server for; a test holds it against what this one does ask for.
const paths = ["/ws", "/api", "/v1", "/login", "/healthz", "/readyz"];

export default defineConfig({
  build: { outDir: "../src/avatar/server/ui", emptyOutDir: true, target: "es2022", assetsInlineLimit: 0 },
  worker: { format: "es" },
  server: {
    host: "127.0.0.1",
    port: 5173,
    strictPort: true, // run_dev.py tells the API that this page may talk to it
    proxy: Object.fromEntries(paths.map((path) => [path, { target: api, ws: true }])),
  },
});
