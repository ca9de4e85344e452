// The present request as curl, Python and Node: built as text, shown as text.
(() => {
  "use strict";
  if (!globalThis.Playground) return;
  const { root, byId } = Playground;
  const SHORT = 120;

  /* Pictures in messages are long: the code says where yours belongs. */
  const shortened = (value) => {
    if (typeof value === "string" && value.startsWith("data:") && value.length > SHORT) return `${value.slice(0, value.indexOf(",") + 1)}BASE64`;
    if (Array.isArray(value)) return value.map(shortened);
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, shortened(one)]));
    return value;
  };
  const json = (value, indent = 2) => JSON.stringify(value, null, indent);
  const shell = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
  const python = (value, depth = 1) => {
    const pad = "    ".repeat(depth);
    const end = "    ".repeat(depth - 1);
    if (value === null) return "None";
    if (value === true) return "True";
    if (value === false) return "False";
    if (typeof value !== "object") return JSON.stringify(value);
    const isList = Array.isArray(value);
    const items = isList ? value.map((one) => python(one, depth + 1)) : Object.entries(value).map(([key, one]) => `${JSON.stringify(key)}: ${python(one, depth + 1)}`);
    const [open, close] = isList ? "[]" : "{}";
    const line = `${open}${items.join(", ")}${close}`;
    return line.length < 72 && !line.includes("\n") ? line : `${open}\n${items.map((item) => `${pad}${item},\n`).join("")}${end}${close}`;
  };
  const node = (value, depth = 1) => json(value).replaceAll("\n", `\n${"  ".repeat(depth)}`).replace(/^(\s*)"([A-Za-z_]\w*)":/gm, "$1$2:");

  /* `call` = {path, method, body, files: {field: name}, isForm, python: [lines after], node: [lines after]} */
  const inCurl = ({ path, body, files, isForm, save }) => {
    const lines = [`curl ${root.dataset.base}${path}`, `-H "Authorization: Bearer YOUR_API_KEY"`];
    if (isForm) {
      for (const [name, file] of Object.entries(files)) lines.push(`-F ${shell(`${name}=@${file}`)}`);
      for (const [name, value] of Object.entries(body)) lines.push(`-F ${shell(`${name}=${value}`)}`);
    } else {
      lines.push(`-H "Content-Type: application/json"`, `-d ${shell(json(body))}`);
    }
    if (save) lines.push(`-o ${save}`);
    return lines.join(" \\\n  ");
  };
  const inPython = ({ method, body, files, python: after }) => {
    const given = [...Object.entries(files).map(([name, file]) => `    ${name}=open(${JSON.stringify(file)}, "rb"),`), ...Object.entries(body).map(([name, value]) => `    ${name}=${python(value, 2)},`)];
    return ["from openai import OpenAI", "", "client = OpenAI(", `    base_url="${root.dataset.base}",`, `    api_key="YOUR_API_KEY",`, ")", `answer = client.${method}(`, ...given, ")", ...after].join("\n");
  };
  const inNode = ({ method, body, files, node: after }) => {
    const hasFiles = Object.keys(files).length > 0;
    const given = [...Object.entries(files).map(([name, file]) => `  ${name}: fs.createReadStream(${JSON.stringify(file)}),`), ...Object.entries(body).map(([name, value]) => `  ${name}: ${node(value)},`)];
    return [...(hasFiles || after.some((line) => line.includes("fs.")) ? [`import fs from "node:fs";`] : []), `import OpenAI from "openai";`, "", "const client = new OpenAI({", `  baseURL: "${root.dataset.base}",`, `  apiKey: "YOUR_API_KEY",`, "});", `const answer = await client.${method.replace(/_(\w)/g, (_, letter) => letter.toUpperCase())}({`, ...given, "});", ...after].join("\n");
  };

  /* Show what `current()` gives, as it is now. */
  const offer = (current) => byId("view-code").addEventListener("click", () => {
    const call = { files: {}, isForm: false, ...current() };
    call.body = shortened(call.body);
    byId("code-curl-text").textContent = inCurl(call);
    byId("code-python-text").textContent = inPython(call);
    byId("code-node-text").textContent = inNode(call);
    byId("code-dialog").showModal();
  });

  globalThis.PlaygroundCode = Object.freeze({ offer });
})();
