-- Interval polls, answered at once whether there is a message or not:
-- wrk -t1 -c64 -d5s -s interval.lua 'http://127.0.0.1:8080/sub/c1?as=interval&after=oldest'
wrk.method = "GET"

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
