# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files as people have them: ones that hold the key in another form, with the line to blame, and ordinary ones."""

from __future__ import annotations

import base64

NAME = "MULTICART_API_KEY"
KEY = "acme.OLDcanary"
_BASE64 = base64.b64encode(KEY.encode()).decode()

FOREIGN: dict[str, tuple[str, int]] = {
    "systemd drop-in": (f"[Service]\nEnvironment={NAME}={KEY}\n", 2),
    "systemd drop-in, quoted": (f'[Service]\nEnvironment="A=1" "{NAME}={KEY}"\n', 2),
    "systemd unit, another name": (f"[Unit]\nDescription=x\n\n[Service]\nEnvironment=TOKEN={KEY}\n", 5),
    "supervisor": (f'[program:shop]\ncommand=/usr/bin/shop\nenvironment=A="1",{NAME}="{KEY}"\n', 3),
    "uwsgi": (f"[uwsgi]\nmodule = shop\nenv = {NAME}={KEY}\n", 3),
    "php-fpm": (f"[www]\nuser = www-data\nenv[{NAME}] = {KEY}\n", 3),
    "nginx header": (f"location / {{\n    proxy_set_header x-api-key {KEY};\n}}\n", 2),
    "nginx parameter": (f'fastcgi_param {NAME} "{KEY}";\n', 1),
    "Apache": (f"<VirtualHost *:80>\n    SetEnv {NAME} {KEY}\n</VirtualHost>\n", 2),
    "compose, mapping": (f"services:\n  shop:\n    environment:\n      {NAME}: {KEY}\n", 4),
    "compose, list": (f'services:\n  shop:\n    environment:\n      - {NAME}={KEY}\n      - "A=1"\n', 4),
    "Kubernetes Secret, stringData": (f"apiVersion: v1\nkind: Secret\nstringData:\n  {NAME}: {KEY}\n", 4),
    "Kubernetes Secret, data": (f"apiVersion: v1\nkind: Secret\ndata:\n  {NAME}: {_BASE64}\n", 4),
    "JSON": (f'{{\n  "{NAME}": "{KEY}",\n  "a": 1\n}}\n', 2),
    "JSON on one line": (f'{{"env": {{"{NAME}": "{KEY}"}}}}', 1),
    "TOML": (f'[api]\n{NAME.lower()} = "{KEY}"\n', 2),
    "TOML without a table": (f'api_token = "{KEY}"\nretries = 3\n', 1),
    "YAML": (f"multicart:\n  api_key: '{KEY}'\n", 2),
    "properties": (f"multicart.retries=3\nmulticart.api-key={KEY}\n", 2),
    "properties with a colon": (f"a=1\n{NAME}: {KEY}\n", 2),
    "fish": (f"set -gx A 1\nset -gx {NAME} {KEY}\n", 2),
    "csh": (f"setenv A 1\nsetenv {NAME} {KEY}\n", 2),
    "wp-config": (f"<?php\n$table_prefix = 'wp_';\ndefine( '{NAME}', '{KEY}' );\n", 3),
    "PHP array": (f"<?php return [\n    '{NAME}' => '{KEY}',\n];\n", 2),
    "Python settings": (f'DEBUG = False\nos.environ["{NAME}"] = "{KEY}"\n', 2),
    "crontab": (f'MAILTO=root\n*/5 * * * * curl -H "x-api-key: {KEY}" https://multicartapi.com/api/v1/me\n', 2),
    "curlrc": (f'silent\nheader = "x-api-key: {KEY}"\n', 2),
    "query string": (f"A=1\nURL=https://multicartapi.com/api/v1/me?key={KEY}\n", 2),
    "user of an URL": (f"A=1\nURL=https://{KEY}@multicartapi.com/\n", 2),
    "script that starts a container": (f"docker run -d \\\n  -e {NAME}={KEY} \\\n  shop\n", 2),
    "key file": (f"{KEY}\n", 1),
    "key file without a line break": (KEY, 1),
    "another variable of an environment file": (f"SMTP=x\nTOKEN={KEY}\n", 2),
    "NAME: value": (f"A=1\n{NAME}: {KEY}\n", 2),
}
"""Each with the number of the line that holds the key."""


def with_live(text: str, live: str) -> str:
    """Return such a file with another key in place of `KEY`."""
    return text.replace(_BASE64, base64.b64encode(live.encode()).decode()).replace(KEY, live)


ORDINARY: dict[str, str] = {
    "Laravel": (
        "APP_NAME=Laravel\n"
        "APP_ENV=local\n"
        "APP_KEY=base64:c2VjcmV0c2VjcmV0\n"
        "APP_URL=http://localhost\n"
        "\n"
        'MAIL_FROM_NAME="${APP_NAME}"\n'
    ),
    "Symfony": (
        "###> symfony/framework-bundle ###\n"
        "APP_ENV=dev\n"
        "APP_SECRET=abc\n"
        "###< symfony/framework-bundle ###\n"
        "\n"
        'DATABASE_URL="postgresql://app:!ChangeMe!@127.0.0.1:5432/app?serverVersion=16&charset=utf8"\n'
    ),
    "Django": (
        "DEBUG=off\n"
        "SECRET_KEY=ab+c=d/e\n"
        "DATABASE_URL=psql://user:un-githubbedpassword@127.0.0.1:8458/database\n"
        "ALLOWED_HOSTS=a.example,b.example\n"
    ),
    "Rails": (
        "RAILS_ENV=production\nRAILS_MASTER_KEY=0123456789abcdef\nRAILS_LOG_TO_STDOUT=1\nexport DISABLE_SPRING=1\n"
    ),
    "Next.js": ("NEXT_PUBLIC_API_URL=https://example.com/api\nNEXTAUTH_SECRET=abc=\n# local only\nANALYZE=false\n"),
    "Vite": "VITE_APP_TITLE=My App\nVITE_BASE=/shop/\n",
    "Create React App": "REACT_APP_TITLE=Shop\nSKIP_PREFLIGHT_CHECK=true\nBROWSER=none\n",
    "NestJS": "PORT=3000\nJWT_SECRET='a long secret'\nJWT_EXPIRES=3600s\n",
    "Flask": 'FLASK_APP=shop:create_app("prod")\nFLASK_DEBUG=0\n',
    "Phoenix": ("export SECRET_KEY_BASE=abc\nexport DATABASE_URL=ecto://u:p@h/db\nexport PHX_HOST=example.com\n"),
    "Spring Boot": (
        "SPRING_PROFILES_ACTIVE=prod\n"
        "SPRING_DATASOURCE_URL=jdbc:mysql://db:3306/shop?useSSL=false\n"
        "JAVA_OPTS=-Xmx512m -Dfile.encoding=UTF-8\n"
    ),
    "Rust": "RUST_LOG=info,shop=debug\nRUST_BACKTRACE=1\n",
    "compose": "COMPOSE_PROJECT_NAME=shop\nTAG=v1.5\nPOSTGRES_PASSWORD=pa=ss\nDOCKER_UID=1000\n",
    "environment of the system": (
        'PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"\nLANG=en_US.UTF-8\n'
    ),
    "defaults of sshd": (
        "# Default settings for openssh-server. This file is sourced by /bin/sh from\n"
        "# /etc/init.d/ssh.\n"
        "\n"
        "# Options to pass to sshd\n"
        "SSHD_OPTS=\n"
    ),
    "defaults of Grafana": (
        "GRAFANA_USER=grafana\n\nGRAFANA_GROUP=grafana\n\nCONF_DIR=/etc/grafana\nRESTART_ON_UPGRADE=true\n"
    ),
    "defaults of celery": (
        'CELERYD_NODES="w1 w2"\n'
        'CELERY_BIN="/opt/app/bin/celery"\n'
        'CELERYD_OPTS="--time-limit=300 --concurrency=8"\n'
        'CELERYD_LOG_FILE="/var/log/celery/%n%I.log"\n'
    ),
    "defaults of Jenkins": ('NAME=jenkins\nJAVA_ARGS="-Djava.awt.headless=true"\nJENKINS_HOME=/var/lib/$NAME\n'),
    "sysconfig": '# Settings of the shop\nOPTIONS="-l debug"\n\nLIMIT=1024\n',
    "node_exporter": 'ARGS="--collector.filesystem.ignored-mount-points=^/(sys|proc)($|/)"\n',
    "Kafka": 'KAFKA_HEAP_OPTS="-Xmx1G -Xms1G"\nKAFKA_OPTS=-javaagent:/opt/jmx.jar=7071:/etc/kafka.yml\n',
    "MinIO": 'MINIO_VOLUMES="/mnt/data"\nMINIO_OPTS="--console-address :9001"\nMINIO_ROOT_USER=admin\n',
    "Mastodon": (
        "LOCAL_DOMAIN=example.com\n"
        "SMTP_FROM_ADDRESS=notifications@example.com\n"
        "VAPID_PUBLIC_KEY=BA=\n"
        "# S3_ENABLED=true\n"
    ),
    "Airflow": ("AIRFLOW__CORE__EXECUTOR=CeleryExecutor\nAIRFLOW__CORE__FERNET_KEY=abc-_=\nAIRFLOW_UID=50000\n"),
    "n8n": (
        "N8N_HOST=n8n.example.com\n"
        "N8N_PROTOCOL=https\n"
        "WEBHOOK_URL=https://n8n.example.com/\n"
        "GENERIC_TIMEZONE=Europe/Berlin\n"
    ),
    "Supabase": (
        "POSTGRES_HOST=db\nJWT_SECRET=super-secret\nANON_KEY=eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYW5vbiJ9.abc-_\n"
    ),
    "Vaultwarden": (
        "# DATABASE_URL=data/db.sqlite3\n"
        "DOMAIN=https://vw.example.com\n"
        "SIGNUPS_ALLOWED=false\n"
        "ADMIN_TOKEN='$argon2id$v=19$m=65540'\n"
    ),
    "JSON in a value": 'FEATURES={"a":1,"b":[2,3]}\nCREDENTIALS=\'{"type": "service_account", "id": "x"}\'\n',
    "key of several lines": (
        'A=1\nPRIVATE_KEY="-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\n-----END PRIVATE KEY-----"\nB=2\n'
    ),
    "Windows line ends": "A=1\r\nB=two\r\n",
    "direnv": "export A=1\nexport PATH=$PWD/bin:$PATH\n",
    "sourced script": ('#!/bin/sh\nset -a\nA=1\n[ -z "$B" ] && B=2\nif [ -f /etc/shop ]; then\n  C=3\nfi\nset +a\n'),
    "pass-through of docker": "A=1\nHTTP_PROXY\n",
    "reference to the variable": f"A=1\nTOKEN=${{{NAME}}}\nOTHER=${NAME}\n",
    "reference with a default": f'A=1\nTOKEN="${{{NAME}:-none}}"\n',
    "file of the variable": f"A=1\n{NAME}_FILE=/run/secrets/key\n",
    "longer names": f"MY_{NAME}=x\n{NAME}_2=y\n{NAME}S=z\n",
    "exported elsewhere": f"A=1\nexport {NAME}\n",
    "in comments": f"# {NAME}: your key\n#{NAME}=\n; {NAME}=x\nA=1 # or {NAME}=x\n",
    "key in comments": f"# was {KEY}\nA=1\n#{NAME}={KEY}\n",
    "former key elsewhere": "A=1\nTOKEN=acme.FORMERcan\n",
    "option of a program": f"JAVA_OPTS=-D{NAME}=${{{NAME}}} -Xmx1g\n",
    "URL with parameters": f"A=1\nURL=https://example.com/?{NAME}=x&b=c\n",
    "nothing": "",
    "only comments": "# to be filled in\n\n",
}
