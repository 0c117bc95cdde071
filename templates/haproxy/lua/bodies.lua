-- Why not native: HAProxy cannot change a body, and its JSON reader takes the first of two equal names where engines take the last.
--
-- read_body reads a suspicious body strictly and sets what the native rules would have read; the filter `bodies` puts the
-- longest reply (txn.max_tokens_cap, txn.max_tokens_default) into a body. Both run for the few requests that need them.

local DEEPEST = 100
local SPELLINGS = {
  ["/v1/chat/completions"] = { "max_tokens", "max_completion_tokens" },
  ["/v1/completions"] = { "max_tokens" },
  ["/v1/responses"] = { "max_output_tokens" },
}
local LARGEST = 1000000000

local function refuse(code, detail, param)
  error({ code = code, detail = detail, param = param })
end

local function invalid()
  refuse("invalid_json", "The body is not valid JSON. Send one JSON object.")
end

-- Positions: `at` is the first byte of something, and what is returned is the first byte after it.
local function after_space(text, at)
  return text:find("[^ \t\r\n]", at) or #text + 1
end

local function after_string(text, at)
  local from = at + 1
  while true do
    local quote = text:find('"', from, true)
    if not quote then invalid() end
    local before = quote - 1
    while text:byte(before) == 92 do before = before - 1 end
    if (quote - before) % 2 == 1 then return quote + 1 end
    from = quote + 1
  end
end

local function after_value(text, at)
  local first = text:sub(at, at)
  if first == '"' then return after_string(text, at) end
  if first ~= "{" and first ~= "[" then
    local _, last = text:find("^[%w.+-]+", at)
    if not last then invalid() end
    return last + 1
  end
  local depth = 1
  at = at + 1
  while depth > 0 do
    at = text:find('["{}%[%]]', at)
    if not at then invalid() end
    local found = text:sub(at, at)
    if found == '"' then
      at = after_string(text, at)
    else
      depth = depth + ((found == "{" or found == "[") and 1 or -1)
      if depth > DEEPEST then refuse("nested_too_deep", "The body is nested deeper than " .. DEEPEST .. " levels.") end
      at = at + 1
    end
  end
  return at
end

local function plain(name)
  return (name:gsub("\\u(%x%x%x%x)", function(digits) return utf8.char(tonumber(digits, 16)) end))
end

-- Calls back for every member or element on the first level, with the first byte of its value and the byte after it.
local function each(text, at, close, named, visit)
  at = after_space(text, at + 1)
  if text:sub(at, at) == close then return at + 1 end
  while true do
    local name
    if named then
      if text:sub(at, at) ~= '"' then invalid() end
      local ends = after_string(text, at)
      name = plain(text:sub(at + 1, ends - 2))
      at = after_space(text, ends)
      if text:sub(at, at) ~= ":" then invalid() end
      at = after_space(text, at + 1)
    end
    local ends = after_value(text, at)
    visit(at, ends, name)
    at = after_space(text, ends)
    local separator = text:sub(at, at)
    if separator == close then return at + 1 end
    if separator ~= "," then invalid() end
    at = after_space(text, at + 1)
  end
end

local function members_of(text)
  local members = {}
  local first = after_space(text, 1)
  if text:sub(first, first) ~= "{" then invalid() end
  local ends = each(text, first, "}", true, function(from, to, name)
    if members[name] then
      refuse("duplicate_key", "The body has " .. name .. " twice. Send it once.", name)
    end
    members[name] = { from = from, to = to - 1 }
  end)
  if after_space(text, ends) <= #text then invalid() end
  return members, first
end

local function count_of(text, member)
  if not member or text:sub(member.from, member.from) ~= "[" then return nil end
  local count, kind = 0, nil
  each(text, member.from, "]", false, function(from)
    kind = kind or text:sub(from, from)
    count = count + 1
  end)
  return count, kind
end

-- What engines take for a number: 5, "5" and 5.0. Anything else is refused here, because readers differ about it.
local function number_of(text, members, name)
  local member = members[name]
  local said = member and text:sub(member.from, member.to)
  if not said or said == "null" then return nil end
  local number = math.tointeger(tonumber(said:match('^"(%d+)"$') or said:match("^%d[%d.eE+]*$")))
  if not number or number < 1 or number > LARGEST then
    refuse("invalid_value", name .. " has to be a whole number from 1 to " .. LARGEST .. ".", name)
  end
  return number
end

local function put(txn, name, value)
  if value then txn:set_var("txn." .. name, value) else txn:unset_var("txn." .. name) end
end

local function read(txn)
  local text = txn.f:req_body()
  local path = txn.f:path()
  local members = members_of(text)
  local spelled = SPELLINGS[path] or {}
  put(txn, "max_tokens", number_of(text, members, spelled[1] or ""))
  put(txn, "max_completion_tokens", number_of(text, members, spelled[2] or ""))
  local prompts, kind = count_of(text, members.prompt)
  local many = kind == '"' or kind == "["
  local choices = math.max(number_of(text, members, "n") or 1, number_of(text, members, "best_of") or 1)
  put(txn, "generations", choices * (many and prompts or 1))
  put(txn, "best_of", nil)
  put(txn, "messages", count_of(text, members.messages or members.input))
  -- The last word on what was read natively before.
  local model = members.model and text:sub(members.model.from, members.model.to)
  if model ~= '"' .. tostring(txn:get_var("txn.model")) .. '"' then
    refuse("invalid_value", "model has to be one plain text.", "model")
  end
  txn:set_var("txn.stream", members.stream ~= nil and text:sub(members.stream.from, members.stream.to) == "true")
end

core.register_action("read_body", { "http-req" }, function(txn)
  local fine, problem = pcall(read, txn)
  if fine then return end
  if type(problem) ~= "table" then
    core.log(core.err, "read_body: " .. tostring(problem))
    problem = { code = "invalid_json", detail = "The body is not valid JSON. Send one JSON object." }
  end
  txn:set_var("txn.body_problem", problem.code)
  txn:set_var("txn.body_detail", problem.detail)
  txn:set_var("txn.body_param", problem.param or "body")
end)

local function with_longest_reply(text, path, cap, default)
  local members, first = members_of(text)
  local edits, said, empty = {}, false, nil
  for _, name in ipairs(SPELLINGS[path] or {}) do
    local number = number_of(text, members, name)
    said = said or number ~= nil
    if members[name] and not number then empty = members[name] end
    if number and cap and number > cap then edits[#edits + 1] = { members[name].from, members[name].to, tostring(cap) } end
  end
  local missing = default and cap and math.min(default, cap) or default or cap
  if not said and missing and empty then
    edits[1] = { empty.from, empty.to, tostring(missing) }
  elseif not said and missing then
    edits[1] = { first + 1, first, '"' .. (SPELLINGS[path] or { "max_tokens" })[1] .. '":' .. missing .. "," }
  end
  table.sort(edits, function(one, other) return one[1] > other[1] end)
  for _, edit in ipairs(edits) do text = text:sub(1, edit[1] - 1) .. edit[3] .. text:sub(edit[2] + 1) end
  return text, #edits > 0
end

local Bodies = { id = "bodies", flags = filter.FLT_CFG_FL_HTX }
Bodies.__index = Bodies

local expected = false
core.register_action("rewrite_body", { "http-req" }, function() expected = true end)

function Bodies:new()
  if not expected then return nil end
  expected = false
  return setmetatable({}, Bodies)
end

function Bodies:http_headers(txn, message)
  if message:is_resp() then return end
  local text, changed = with_longest_reply(txn.f:req_body(), txn.f:path(), txn:get_var("txn.max_tokens_cap"), txn:get_var("txn.max_tokens_default"))
  if not changed then return end
  self.text = text
  if message:get_headers()["content-length"] then message:set_header("content-length", tostring(#text)) end
  filter.register_data_filter(self, message.channel)
end

function Bodies:http_payload(_, message)
  if self.text then
    message:set(self.text)
    self.text = nil
  end
  message:forward(message:input())
end

core.register_filter("bodies", Bodies, function(filter) return filter end)
