-- Why not native: HAProxy limits the silence of an answer, not its length, and could only cut it.
--
-- Ends a stream that is older than txn.deadline_ms with an error event, which clients raise, instead of a bare cut.

local Deadline = { id = "deadline", flags = filter.FLT_CFG_FL_HTX }
Deadline.__index = Deadline

local ERROR = 'data: {"error":{"message":"The answer took longer than the %g s that requests of the lane %s have. '
  .. 'Ask for fewer tokens.","type":"server_error","param":null,"code":"generation_timeout"}}\n\ndata: [DONE]\n\n'

local function now_ms()
  local time = core.now()
  return time.sec * 1000 + time.usec // 1000
end

-- A filter is made for every request, and costs most once it takes part. The configuration says when a stream is about
-- to enter a backend; the filter is made right after that, on the same thread.
local expected = false
core.register_action("expect_stream", { "http-req" }, function() expected = true end)

function Deadline:new()
  if not expected then return nil end
  expected = false
  return setmetatable({ whole = true }, Deadline)
end

function Deadline:start_analyze(txn, channel)
  if not channel:is_resp() then return end
  self.limit_ms = txn:get_var("txn.deadline_ms")
  self.ends = now_ms() + self.limit_ms
end

function Deadline:http_headers(txn, message)
  if not message:is_resp() then return end
  local kind = message:get_headers()["content-type"]
  if not kind or not kind[0]:find("^text/event%-stream") then return end
  filter.register_data_filter(self, message.channel)
  filter.wake_time(math.max(self.ends - now_ms(), 1))
end

-- Between two events only, so that the client does not read half of one together with the error.
local function forward_rest_of_event(message)
  local data = message:body()
  local _, ends = (data or ""):find("\n\n", 1, true)
  if ends then
    message:forward(ends)
    return true
  end
  message:forward(message:input())
  return false
end

function Deadline:http_payload(txn, message)
  if self.ended then
    message:remove()
    return
  end
  local left = self.ends - now_ms()
  if left > 0 then
    if message:input() > 0 then
      self.whole = message:body(-2) == "\n\n"
      message:forward(message:input())
    end
    filter.wake_time(left)
    return
  end
  if not self.whole then self.whole = forward_rest_of_event(message) end
  if not self.whole then return end
  self.ended = true
  message:remove()
  txn:set_var("txn.refused", "generation_timeout")
  message:append(ERROR:format(self.limit_ms / 1000, txn:get_var("txn.lane") or ""))
  message:set_eom()
  message:forward(message:input())
end

core.register_filter("deadline", Deadline, function(_, _) end)
