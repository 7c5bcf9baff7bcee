// The dev server passes the API through to the port `run_dev.py` names; the build goes where the server serves it.
import { defineConfig } from "vite";

const api = process.env.AVATAR_DEV_API ?? "http://127.0.0.1:8000";

export default defineConfig({
  build: { outDir: "../src/avatar/server/ui", emptyOutDir: true, target: "es2022", assetsInlineLimit: 0 },
  worker: { format: "es" },
  server: {
    proxy: {
      "/ws": { target: api, ws: true },
      "/api": { target: api },
      "/healthz": { target: api },
    },
  },
});
