-- Publishing 100 bytes to a channel: wrk -t1 -c64 -d5s -s publish.lua http://127.0.0.1:8080/pub/c1
wrk.method = "POST"
wrk.body = string.rep("x", 100)
wrk.headers["Content-Type"] = "text/plain; charset=utf-8"

-- Any failed request spoils the whole measurement.
function done(summary, latency)
  local e = summary.errors
  local failed = e.connect + e.read + e.write + e.status + e.timeout
  if failed > 0 then
    print("failed: " .. failed)
    os.exit(1)
  end
  print("requests: " .. summary.requests)
end
