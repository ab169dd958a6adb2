// Starts `mdtool lsp` for machine descriptions (YAML) and guest XML.
"use strict";

const { workspace } = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

let client;

function activate() {
  const settings = workspace.getConfiguration("mdtool");
  const qemu = settings.get("qemu");
  const server = { command: settings.get("command"), args: qemu ? ["lsp", "--qemu", qemu] : ["lsp"] };
  const documentSelector = ["yaml", "xml"].map((language) => ({ scheme: "file", language }));
  client = new LanguageClient("mdtool", "mdtool", server, { documentSelector });
  return client.start();
}

function deactivate() {
  return client ? client.stop() : undefined;
}

module.exports = { activate, deactivate };
