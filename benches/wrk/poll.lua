-- Long polls that find a message waiting:
-- wrk -t1 -c64 -d5s -s poll.lua 'http://127.0.0.1:8080/sub/c1?as=poll&after=oldest'
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
