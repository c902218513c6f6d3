"""A configuration that says something of everything."""

WHOLE = """
[station]
name = "line3"
state = "state"
log_level = "debug"

[model]
path = "washer.onnx"
threads = 2
threshold = 3.5

[camera.top]
source = "rtsp://user:hunter2@10.0.0.7/stream1"
stall_s = 3.0
width = 640
height = 480

[camera.top.integrity]
frozen_after_s = 0
sharpness = 12

[camera.side]
source = "clips/side.mp4"
paced = true
trigger = "command"

[decision]
k = 2
n = 5

[evidence]
max_bytes = 1_000_000_000
keep = "all"

[events]
publish = "rejects"

[mqtt]
host = "broker.local"
username = "line3"
password_file = "mqtt.password"
tls = { ca = "ca.pem" }

[webhook.mes]
url = "https://mes.local/parts"
token_file = "/run/secrets/mes"

[jsonl]
path = "events.jsonl"

[web]
port = 0
"""
