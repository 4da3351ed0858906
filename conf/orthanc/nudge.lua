-- Tells Poterne that Orthanc has something new, so that it looks at once instead of at its next turn.
-- In orthanc.json: "LuaScripts": ["/etc/orthanc/nudge.lua"]. Set ops.listen, tenant and PACS as in poterne.toml.
-- Nothing is lost without it, or when the call fails: Poterne reads /changes by itself.
local url = 'http://127.0.0.1:9200/pacs/TENANT/PACS/nudge'

function OnStableStudy(studyId, tags, metadata)
  if SetHttpTimeout then SetHttpTimeout(2) end  -- recent versions; else HttpTimeout of orthanc.json
  HttpPost(url, '')
end
