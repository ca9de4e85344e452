/* Starts Swagger UI or Redoc, whichever the page has. The key that a reader enters stays in this tab. */
addEventListener("DOMContentLoaded", () => {
  "use strict";
  const swagger = document.getElementById("swagger-ui");
  if (swagger) {
    globalThis.SwaggerUIBundle({
      url: swagger.dataset.schema,
      domNode: swagger,
      deepLinking: true,
      docExpansion: "none",
      defaultModelsExpandDepth: -1,
      displayRequestDuration: true,
      filter: true,
      tryItOutEnabled: true,
      validatorUrl: null,
      presets: [globalThis.SwaggerUIBundle.presets.apis],
    });
  }
  const redoc = document.getElementById("redoc");
  if (redoc) {
    const styles = getComputedStyle(document.documentElement);
    const color = (name) => {
      const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
      canvas.fillStyle = styles.getPropertyValue(name);
      canvas.fillRect(0, 0, 1, 1);
      const [red, green, blue] = canvas.getImageData(0, 0, 1, 1).data;
      return `rgb(${red}, ${green}, ${blue})`;
    };
    const theme = {
      colors: { primary: { main: color("--primary") }, text: { primary: color("--foreground"), secondary: color("--muted-foreground") } },
      sidebar: { backgroundColor: color("--sidebar"), textColor: color("--sidebar-foreground") },
      rightPanel: { backgroundColor: "#1b2523" },
      schema: { nestedBackground: color("--muted"), linesColor: color("--border") },
      typography: { fontFamily: styles.getPropertyValue("--font-sans"), headings: { fontFamily: styles.getPropertyValue("--font-sans") }, code: { fontFamily: styles.getPropertyValue("--font-mono"), backgroundColor: color("--muted"), color: color("--foreground") } },
    };
    globalThis.Redoc.init(redoc.dataset.schema, { nonce: redoc.dataset.nonce, hideDownloadButton: true, theme }, redoc);
  }
});
