/* Starts Swagger UI or Redoc, whichever the page has. The key that a reader enters stays in this tab. */
/* Redoc shows its maker's logo from another site, which no page of ours may ask: an empty picture takes its place. It has
   no option for that, and its React sets an image's address both as an attribute and as a property. */
const withoutLogo = () => {
  "use strict";
  const empty = "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg'/>";
  const ours = (address) => (String(address).startsWith("https://cdn.redoc.ly/") ? empty : address);
  const image = HTMLImageElement.prototype;
  const { get, set } = Object.getOwnPropertyDescriptor(image, "src");
  Object.defineProperty(image, "src", { get, set(value) { set.call(this, ours(value)); }, configurable: true, enumerable: true });
  image.setAttribute = function (name, value) { Element.prototype.setAttribute.call(this, name, name === "src" ? ours(value) : value); };
};
addEventListener("DOMContentLoaded", () => {
  "use strict";
  const root = document.documentElement;
  /* Swagger UI has a dark theme of its own, by another name. */
  const follow = () => { if (root.classList.contains("dark") !== root.classList.contains("dark-mode")) root.classList.toggle("dark-mode"); };
  follow();
  new MutationObserver(follow).observe(root, { attributes: true, attributeFilter: ["class"] });
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
    withoutLogo();
    /* Redoc knows light pages only: its colours are those of our light theme, whatever the reader's is. */
    const fontFamily = getComputedStyle(root).getPropertyValue("--font-sans");
    const code = { fontFamily: getComputedStyle(root).getPropertyValue("--font-mono") };
    const theme = {
      colors: { primary: { main: "#1f5546" }, text: { primary: "#16211e" } },
      sidebar: { backgroundColor: "#f4f5f1" },
      rightPanel: { backgroundColor: "#1b2523" },
      typography: { fontFamily, headings: { fontFamily }, code },
    };
    globalThis.Redoc.init(redoc.dataset.schema, { nonce: redoc.dataset.nonce, hideDownloadButton: true, theme }, redoc);
  }
});
