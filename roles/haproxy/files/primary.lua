-- One primary at a time, decided by who came last (loaded by haproxy.cfg, backend pg_primary).
--
-- Patroni lets one host lead. So when a second server of the backend passes its check, the first one no longer leads, whatever
-- its own checks say or do not say yet: it is marked down at once, and with that its sessions are ended (on-marked-down).
-- A primary is thus replaced within EVERY milliseconds of its successor's first answer, and the checks that would find it
-- silent may be patient: a primary that is slow to answer while nobody else leads keeps its sessions. Ending those made a busy
-- host busier still, with the log-ins of everybody who had been cut off.
--
-- Servers without weight are of a cluster that does not serve (see the migration of PostgreSQL) and are left alone.

local BACKEND = "pg_primary"
local EVERY = 100 -- ms

local leads = nil -- the server that writes go to
local followed = {} -- servers that another one has followed; until their own Patroni denies, or falls silent

local function look(server)
  local stats = server:get_stats()
  return {
    up = stats.status:sub(1, 2) == "UP",
    weight = tonumber(stats.weight) or 0,
    passed = (stats.check_status or ""):find("L7OK", 1, true) ~= nil,
  }
end

local function step()
  local serving, newcomer = {}, nil
  for name, server in pairs(core.backends[BACKEND].servers) do
    local seen = look(server)
    if followed[name] and (seen.weight == 0 or not seen.passed) then
      followed[name] = nil
    end
    if seen.up and seen.weight > 0 then
      if followed[name] then
        server:check_force_down() -- an answer from before it knew
      else
        serving[name] = server
        if name ~= leads and seen.passed then
          newcomer = name
        end
      end
    end
  end
  -- At a start every server counts as up until its first check: then nobody leads yet, and nobody is followed.
  if newcomer == nil or (leads == nil and next(serving, next(serving)) ~= nil) then
    return
  end
  if leads ~= nil then
    followed[leads] = true
    if serving[leads] ~= nil then
      core.log(core.notice, BACKEND .. ": " .. newcomer .. " leads, so " .. leads .. " no longer does")
      serving[leads]:check_force_down()
    end
  end
  leads = newcomer
end

core.register_task(function()
  while true do
    step()
    core.msleep(EVERY)
  end
end)
