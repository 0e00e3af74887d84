local schedules = {}
function schedules.list() return {} end
function schedules.run() end
function schedules.stop() end
return schedules
