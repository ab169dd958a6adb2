-- Neovim's own client against `mdtool lsp`: opens $MDTOOL_FILE, waits for diagnostics, mends the first taken slot by the
-- preferred code action, renames net1 to lan, and writes what it saw to $MDTOOL_RESULT as JSON.
local out, seen = os.getenv("MDTOOL_RESULT"), {}
local function finish(failed)
  seen.failed = failed
  local file = io.open(out, "w")
  file:write(vim.json and vim.json.encode(seen) or vim.fn.json_encode(seen))
  file:close()
  vim.cmd("qall!")
end
local function until_true(what, check)
  if not vim.wait(120000, check, 50) then
    finish("waited for " .. what)
  end
end
local ok, problem = pcall(function()
  vim.cmd("edit " .. vim.fn.fnameescape(os.getenv("MDTOOL_FILE")))
  local buffer = vim.api.nvim_get_current_buf()
  local id = vim.lsp.start_client({ name = "mdtool", cmd = { os.getenv("MDTOOL_PYTHON"), "-m", "mdtool", "lsp" } })
  vim.lsp.buf_attach_client(buffer, id)
  until_true("the server", function() return vim.lsp.buf_get_clients(buffer)[id] ~= nil end)
  local client = vim.lsp.get_client_by_id(id)
  local function taken()
    for _, one in ipairs(vim.diagnostic.get(buffer)) do
      if one.code == "address-taken" then return one end
    end
  end
  until_true("diagnostics", function() return taken() ~= nil end)
  local found = taken()
  seen.line, seen.message = found.lnum, found.message
  local where = { start = { line = found.lnum, character = 0 }, ["end"] = { line = found.lnum, character = 1 } }
  local params = { textDocument = vim.lsp.util.make_text_document_params(buffer), range = where, context = { diagnostics = {} } }
  local answer = vim.lsp.buf_request_sync(buffer, "textDocument/codeAction", params, 60000)
  for _, action in ipairs(answer[id].result) do
    if action.isPreferred then
      seen.action = action.title
      vim.lsp.util.apply_workspace_edit(action.edit, client.offset_encoding)
      break
    end
  end
  until_true("no diagnostics", function() return taken() == nil end)
  local row = vim.fn.search("id: net1")
  params = { textDocument = params.textDocument, position = { line = row - 1, character = 20 }, newName = "lan" }
  answer = vim.lsp.buf_request_sync(buffer, "textDocument/rename", params, 60000)
  vim.lsp.util.apply_workspace_edit(answer[id].result, client.offset_encoding)
  vim.cmd("write")
end)
finish(not ok and tostring(problem) or nil)
