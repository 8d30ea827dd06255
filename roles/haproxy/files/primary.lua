-- One primary at a time, decided by timelines (loaded by haproxy.cfg, backend patroni_primary).
--
-- PostgreSQL begins a timeline with each promotion. So of two servers that both say that they lead, the one on the later timeline
-- does, and the other one is its predecessor, whatever its own Patroni says or does not say yet: after a cut it claims to lead
-- until its lease would have ended. The leader is marked up at its first answer, and everybody else down, which ends their
-- sessions (on-marked-down); a predecessor that goes on claiming never reaches `rise`.
-- A primary is thus replaced within EVERY milliseconds of its successor's first answer, and the checks that would find it
-- silent may be patient: a primary that is slow to answer while nobody else leads keeps its sessions. Ending those made a busy
-- host busier still, with the log-ins of everybody who had been cut off.
--
-- A refusal is given longer than silence or a no: on a machine that refuses, Patroni is being started again while its
-- PostgreSQL goes on, or that has ended too, and its sessions with it. What is refused takes HAProxy's own `fall`.
--
-- Nothing is remembered longer than it holds: a server that is down and does not claim to lead has told nothing, and one that
-- was left is taken again as soon as nobody on a later timeline is there.

local BACKEND = "patroni_primary"
local EVERY = 100 -- ms
local GREEN = "-green$" -- the second cluster of a migration counts its own timelines

local LIMIT = 3 -- questions in a row that are answered with a no or by silence
local REFUSED = "L4CON"

local failures, counted = {}, {} -- of servers that are up; and what HAProxy has counted of all failures
local timelines = {} -- of servers that are up or claim to lead, as each one last told

local function learn(name, server, stats)
  local up = stats.status:find("^UP") ~= nil
  local told = tonumber((stats.last_chk or ""):match("^timeline (%d+)")) -- empty while the next question is under way
  if told ~= nil then
    timelines[name] = told
  elseif not up and not (stats.check_status or ""):find("L7OK", 1, true) then
    timelines[name] = nil
  end
  if not up and not stats.status:find("^DOWN") then -- somebody took it out by hand
    timelines[name] = nil
    return nil
  end
  return up
end

-- Whether a server that is up has said no, or nothing, for too long.
local function lost(name, stats)
  local total, status = tonumber(stats.chkfail) or 0, stats.check_status or ""
  if status:find("L7OK", 1, true) then
    failures[name] = 0
  elseif not status:find(REFUSED, 1, true) then
    failures[name] = (failures[name] or 0) + total - (counted[name] or total)
  end
  counted[name] = total
  return (failures[name] or 0) >= LIMIT
end

local function leads(one, other)
  local mine, its = timelines[one], timelines[other]
  return its == nil or mine > its or (mine == its and one < other)
end

local function step()
  local servers = core.backends[BACKEND].servers
  local up, leader = {}, {}
  for name, server in pairs(servers) do
    local stats = server:get_stats()
    up[name] = learn(name, server, stats)
    if lost(name, stats) and up[name] then
      core.log(core.notice, BACKEND .. ": " .. name .. " is left: " .. stats.check_status)
      server:check_force_down()
    end
  end
  for name in pairs(timelines) do
    local cluster = name:find(GREEN) ~= nil
    if leader[cluster] == nil or leads(name, leader[cluster]) then
      leader[cluster] = name
    end
  end
  for name, is_up in pairs(up) do
    local first = leader[name:find(GREEN) ~= nil]
    if first == name and not is_up then
      core.log(core.notice, BACKEND .. ": " .. name .. " leads, on timeline " .. timelines[name])
      servers[name]:check_force_up()
    elseif first ~= nil and first ~= name then
      servers[name]:check_force_down()
    end
  end
end

core.register_task(function()
  while true do
    step()
    core.msleep(EVERY)
  end
end)
