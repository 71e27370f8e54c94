# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whole environment files in the shapes that frameworks and programs give them, values and all; written for the tests.

None of them may be refused: each can get its first key, and then another one.
"""

from __future__ import annotations

PRACTICE: dict[str, str] = {
    "Laravel": r"""APP_NAME="My Shop"
APP_ENV=production
APP_KEY=base64:mZ0rVgkq2wlQkH2oG2bnU1gFZ2ZJ5pC2rS0iZ5l0kQw=
APP_DEBUG=false
APP_TIMEZONE=UTC
APP_URL=https://shop.example.com

APP_LOCALE=en
APP_FALLBACK_LOCALE=en
APP_FAKER_LOCALE=en_US

APP_MAINTENANCE_DRIVER=file
# APP_MAINTENANCE_STORE=database

PHP_CLI_SERVER_WORKERS=4
BCRYPT_ROUNDS=12

LOG_CHANNEL=stack
LOG_STACK=single
LOG_DEPRECATIONS_CHANNEL=null
LOG_LEVEL=debug

DB_CONNECTION=mysql
DB_HOST=127.0.0.1
DB_PORT=3306
DB_DATABASE=shop
DB_USERNAME=shop
DB_PASSWORD='p@ss w0rd#1'

SESSION_DRIVER=database
SESSION_LIFETIME=120
SESSION_ENCRYPT=false
SESSION_PATH=/
SESSION_DOMAIN=null

BROADCAST_CONNECTION=log
FILESYSTEM_DISK=local
QUEUE_CONNECTION=database

CACHE_STORE=database
CACHE_PREFIX=

MEMCACHED_HOST=127.0.0.1

REDIS_CLIENT=phpredis
REDIS_HOST=127.0.0.1
REDIS_PASSWORD=null
REDIS_PORT=6379

MAIL_MAILER=log
MAIL_SCHEME=null
MAIL_FROM_ADDRESS="hello@example.com"
MAIL_FROM_NAME="${APP_NAME}"

AWS_ACCESS_KEY_ID=
AWS_SECRET_ACCESS_KEY=
AWS_DEFAULT_REGION=us-east-1
AWS_BUCKET=
AWS_USE_PATH_STYLE_ENDPOINT=false

VITE_APP_NAME="${APP_NAME}"
""",
    "Symfony": r"""# In all environments, the following files are loaded if they exist,
# the latter taking precedence over the former:
#
#  * .env                contains default values for the environment variables needed by the app
#  * .env.local          uncommitted file with local overrides
#
# Real environment variables win over .env files.
# DO NOT DEFINE PRODUCTION SECRETS IN THIS FILE!

###> symfony/framework-bundle ###
APP_ENV=dev
APP_SECRET=3f1c9a0b7d2e4f5a6b7c8d9e0f1a2b3c
#TRUSTED_PROXIES=127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16
#TRUSTED_HOSTS='^(localhost|example\.com)$'
###< symfony/framework-bundle ###

###> doctrine/doctrine-bundle ###
# Format described at https://www.doctrine-project.org/projects/doctrine-dbal/en/latest/reference/configuration.html
#
# DATABASE_URL="sqlite:///%kernel.project_dir%/var/data.db"
# DATABASE_URL="mysql://app:!ChangeMe!@127.0.0.1:3306/app?serverVersion=8.0.32&charset=utf8mb4"
DATABASE_URL="postgresql://app:!ChangeMe!@127.0.0.1:5432/app?serverVersion=16&charset=utf8"
###< doctrine/doctrine-bundle ###

###> symfony/messenger ###
# Choose one of the transports below
# MESSENGER_TRANSPORT_DSN=amqp://guest:guest@localhost:5672/%2f/messages
MESSENGER_TRANSPORT_DSN=doctrine://default?auto_setup=0
###< symfony/messenger ###

###> symfony/mailer ###
MAILER_DSN=null://null
###< symfony/mailer ###

###> nelmio/cors-bundle ###
CORS_ALLOW_ORIGIN='^https?://(localhost|127\.0\.0\.1)(:[0-9]+)?$'
###< nelmio/cors-bundle ###

###> lexik/jwt-authentication-bundle ###
JWT_SECRET_KEY=%kernel.project_dir%/config/jwt/private.pem
JWT_PASSPHRASE=8f0f0e7b
###< lexik/jwt-authentication-bundle ###
""",
    "WordPress Bedrock": r"""DB_NAME='database_name'
DB_USER='database_user'
DB_PASSWORD='database_password'

# Optionally, you can use a data source name (DSN)
# When using a DSN, you can remove the DB_NAME, DB_USER, DB_PASSWORD, and DB_HOST variables
# DATABASE_URL='mysql://database_user:database_password@database_host:database_port/database_name'

# Optional database variables
# DB_HOST='localhost'
# DB_PREFIX='wp_'

WP_ENV='development'
WP_HOME='http://example.com'
WP_SITEURL="${WP_HOME}/wp"

# Specify optional debug.log path
# WP_DEBUG_LOG='/path/to/debug.log'

# Generate your keys here: https://roots.io/salts.html
AUTH_KEY='sW^1]hy{V?yV7+Y@uJ"l*)%0K(0=g;Z<`Mb}|i2Nf&T#x5'
SECURE_AUTH_KEY='2&Jt:Zk[vR$3d!~nQ>8o_b6,Y.aL`w9"cE/xH0p|mF'
LOGGED_IN_KEY='generateme'
NONCE_KEY='generateme'
AUTH_SALT='=$d7s!K&m<L>?Z#{a}`q"W|'
SECURE_AUTH_SALT='generateme'
LOGGED_IN_SALT='generateme'
NONCE_SALT='generateme'
""",
    "Django with django-environ": r"""# See https://django-environ.readthedocs.io/
DJANGO_SETTINGS_MODULE=config.settings.production
DJANGO_SECRET_KEY='django-insecure-l#0&8h!$u@)m(x+t=7*w-3^z_e%q'
DJANGO_DEBUG=False
DJANGO_ADMIN_URL=a1b2c3/
DJANGO_ALLOWED_HOSTS=.example.com,localhost,127.0.0.1
DJANGO_SECURE_SSL_REDIRECT=True

# Email
# ------------------------------------------------------------------------------
DJANGO_SERVER_EMAIL=
MAILGUN_API_KEY=
MAILGUN_DOMAIN=

# Databases
DATABASE_URL=postgres://shop:s3cr3t@postgres:5432/shop
CACHE_URL=rediscache://127.0.0.1:6379/1?client_class=django_redis.client.DefaultClient&password=ungithubbed
CONN_MAX_AGE=60
WEB_CONCURRENCY=4
""",
    "cookiecutter-django": r"""# General
# ------------------------------------------------------------------------------
# DJANGO_READ_DOT_ENV_FILE=True
DJANGO_SETTINGS_MODULE=config.settings.production
DJANGO_SECRET_KEY=zb5zXl4sQ0nEJkq4H3kTtYxq2Rr7G0W8cM1vUoAeIyPdLfShBgNw6mDpCiKj9aVs
DJANGO_ADMIN_URL=jW3kq9/
DJANGO_ALLOWED_HOSTS=.example.com

# Security
# ------------------------------------------------------------------------------
# TIP: better off using DNS, however, redirect is OK too
DJANGO_SECURE_SSL_REDIRECT=False

# django-allauth
# ------------------------------------------------------------------------------
DJANGO_ACCOUNT_ALLOW_REGISTRATION=True

# Redis
# ------------------------------------------------------------------------------
REDIS_URL=redis://redis:6379/0

# Celery
# ------------------------------------------------------------------------------

# Flower
CELERY_FLOWER_USER=debug
CELERY_FLOWER_PASSWORD=debug
""",
    "Rails with dotenv": r"""# .env.production
RAILS_ENV=production
RACK_ENV=production
RAILS_MAX_THREADS=5
RAILS_SERVE_STATIC_FILES=enabled
RAILS_LOG_TO_STDOUT=enabled
SECRET_KEY_BASE=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
DATABASE_URL=postgresql://shop:secret@localhost/shop_production?pool=5
export REDIS_URL=redis://localhost:6379/1
export LANG=en_US.UTF-8

# Comments may be at the end of a line, too
STRIPE_PUBLISHABLE_KEY=pk_test_TYooMQauvdEDq54NiTphI7jx   # test mode
STRIPE_SECRET_KEY=sk_test_4eC39HqLyjWDarjtT1zdp7dc        # test mode
MALLOC_ARENA_MAX=2
RUBY_YJIT_ENABLE=1
""",
    "Rails with Kamal": r"""KAMAL_REGISTRY_PASSWORD=dckr_pat_abcdefg
RAILS_MASTER_KEY=0123456789abcdef0123456789abcdef
POSTGRES_PASSWORD=abc-def_ghi
SOLID_QUEUE_IN_PUMA=true
JOB_CONCURRENCY=3
WEB_CONCURRENCY=2
DB_HOST=192.168.0.2
""",
    "Next.js": r"""# .env.local, never committed
NEXT_PUBLIC_SITE_URL="https://shop.example.com"
NEXT_PUBLIC_API_URL=$NEXT_PUBLIC_SITE_URL/api
NEXT_PUBLIC_ANALYTICS_ID=UA-12345-6

# Auth.js
AUTH_SECRET="dGhpcyBpcyBub3QgYSBzZWNyZXQgYXQgYWxs" # Added by `npx auth`. Read more: https://cli.authjs.dev
AUTH_GITHUB_ID=Iv1.0123456789abcdef
AUTH_GITHUB_SECRET=0123456789abcdef0123456789abcdef01234567

# Prisma
DATABASE_URL="postgresql://shop:shop@localhost:5432/shop?schema=public&connection_limit=5"

NEXT_TELEMETRY_DISABLED=1
""",
    "T3": r"""# When adding additional environment variables, the schema in "/src/env.js"
# should be updated accordingly.

# Next Auth
# You can generate a new secret on the command line with:
# npx auth secret
# https://next-auth.js.org/configuration/options#secret
AUTH_SECRET=""

# Next Auth Discord Provider
AUTH_DISCORD_ID=""
AUTH_DISCORD_SECRET=""

# Prisma
DATABASE_URL="file:./db.sqlite"
""",
    "Nuxt": """NUXT_PUBLIC_API_BASE=https://api.example.com
NUXT_SESSION_PASSWORD=0123456789abcdef0123456789abcdef
NUXT_OAUTH_GITHUB_CLIENT_ID=
NUXT_OAUTH_GITHUB_CLIENT_SECRET=
NITRO_PRESET=node-server
HOST=0.0.0.0
PORT=3000
""",
    "Vite": """VITE_APP_TITLE=My App - a title with blanks
VITE_API=https://api.example.com/v1
VITE_FEATURES=a,b,c
BASE_URL=/
""",
    "SvelteKit": """# adapter-node
ORIGIN=https://shop.example.com
BODY_SIZE_LIMIT=512K
ADDRESS_HEADER=X-Forwarded-For
XFF_DEPTH=1
PUBLIC_SENTRY_DSN="https://abc@o1.ingest.sentry.io/1"
PRIVATE_DB='postgres://u:p@h/d'
""",
    "Node with Express": """NODE_ENV=production
NODE_OPTIONS=--max-old-space-size=2048
PORT=3000
MONGODB_URI=mongodb+srv://shop:abc@cluster0.mongodb.net/shop?retryWrites=true&w=majority
JWT_SECRET=abc123!
CORS_ORIGINS=https://a.example,https://b.example
SESSION_SECRET="keyboard cat"
LOG_FORMAT=':method :url :status'
""",
    "NestJS": r"""# Application
APP_PORT=3000
APP_GLOBAL_PREFIX=api/v1
SWAGGER_ENABLED = true

# TypeORM
DB_TYPE = postgres
DB_HOST = localhost
DB_PORT = 5432

# JWT, RS256
JWT_PUBLIC_KEY="-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----\n"
JWT_EXPIRES_IN=15m
""",
    "Strapi": """HOST=0.0.0.0
PORT=1337
APP_KEYS="toBeModified1,toBeModified2"
API_TOKEN_SALT=tobemodified
ADMIN_JWT_SECRET=tobemodified
TRANSFER_TOKEN_SALT=tobemodified
JWT_SECRET=tobemodified
""",
    "Directus": r"""####################################################################################################
### General

HOST="0.0.0.0"
PORT=8055
PUBLIC_URL="/"

# LOG_LEVEL="info"

####################################################################################################
### Database

# These are passed to `knex`
DB_CLIENT="pg"
DB_CONNECTION_STRING="postgresql://directus:directus@localhost:5432/directus"

### Security
SECRET="6116487b-cda1-52c2-b5b5-c8022c45e263"
ACCESS_TOKEN_TTL="15m"
REFRESH_TOKEN_COOKIE_SECURE=false
CORS_ENABLED=false
CONTENT_SECURITY_POLICY_DIRECTIVES__FRAME_SRC="array:'self',https://example.com"
""",
    "Spring Boot": """SPRING_PROFILES_ACTIVE=prod,metrics
SPRING_DATASOURCE_URL=jdbc:postgresql://db:5432/shop?ssl=true&sslmode=require
SPRING_DATASOURCE_USERNAME=shop
SPRING_DATASOURCE_PASSWORD=s3cr3t
SPRING_JPA_HIBERNATE_DDL_AUTO=validate
MANAGEMENT_ENDPOINTS_WEB_EXPOSURE_INCLUDE=*
SERVER_PORT=8080
JAVA_TOOL_OPTIONS="-XX:MaxRAMPercentage=75 -Djava.security.egd=file:/dev/./urandom"
LOGGING_LEVEL_ROOT=INFO
""",
    "Spring Boot under systemd": """JAVA_HOME=/usr/lib/jvm/java-21-openjdk-amd64
JAVA_OPTS=-Xms512m -Xmx1g -XX:+UseG1GC -Dspring.profiles.active=prod
RUN_ARGS=--server.port=8080 --server.tomcat.threads.max=50
LOG_FOLDER=/var/log/shop
MODE=service
""",
    "Quarkus": """QUARKUS_DATASOURCE_JDBC_URL=jdbc:postgresql://localhost:5432/shop
QUARKUS_DATASOURCE_USERNAME=shop
_DEV_QUARKUS_LOG_LEVEL=DEBUG
QUARKUS_HTTP_PORT=8080
QUARKUS_HTTP_CORS_ORIGINS=/.*/
""",
    "ASP.NET Core": """ASPNETCORE_ENVIRONMENT=Production
ASPNETCORE_URLS=http://+:8080;https://+:8443
DOTNET_RUNNING_IN_CONTAINER=true
ConnectionStrings__Default="Server=db;Database=shop;User Id=sa;Password=Pa55w0rd!;TrustServerCertificate=True"
Logging__LogLevel__Default=Warning
Kestrel__Certificates__Default__Path=/https/shop.pfx
AllowedHosts=*
""",
    "Phoenix": """export MIX_ENV=prod
export PHX_SERVER=true
export PHX_HOST=shop.example.com
export PORT=4000
export DATABASE_URL=ecto://shop:shop@localhost/shop_prod
export SECRET_KEY_BASE=rV0p8Yl5bqg+J0Q2nO3y1P4u/SVLKMTRiWXZkcEhfd6A7sGtBvCxDz9wNjmUaIeF
export POOL_SIZE=10
export RELEASE_COOKIE="abc-123"
export ERL_AFLAGS="-proto_dist inet6_tcp"
""",
    "Phoenix release": """RELEASE_DISTRIBUTION=name
RELEASE_NODE=shop@127.0.0.1
ECTO_IPV6=true
DNS_CLUSTER_QUERY=shop.internal
SECRET_KEY_BASE=rV0p8Yl5bqg+J0Q2nO3y1P4u/SVLKMTRiWXZkcEhfd6A7sGtBvCxDz9wNjmUaIeF
""",
    "FastAPI": r"""# Domain
# This would be set to the production domain with an env var on deployment
# used by Traefik to transmit traffic and acquire TLS certificates
DOMAIN=localhost
# To test the local Traefik config
# DOMAIN=localhost.tiangolo.com

# Environment: local, staging, production
ENVIRONMENT=local

PROJECT_NAME="Full Stack FastAPI Project"
STACK_NAME=full-stack-fastapi-project

# Backend
BACKEND_CORS_ORIGINS="http://localhost,http://localhost:5173,https://localhost,https://localhost:5173"
SECRET_KEY=changethis
FIRST_SUPERUSER=admin@example.com
FIRST_SUPERUSER_PASSWORD=changethis

# Emails
SMTP_HOST=
SMTP_USER=
SMTP_PASSWORD=
EMAILS_FROM_EMAIL=info@example.com
SMTP_TLS=True
SMTP_PORT=587

# Postgres
POSTGRES_SERVER=localhost
POSTGRES_PORT=5432
POSTGRES_DB=app
POSTGRES_USER=postgres
POSTGRES_PASSWORD=changethis

SENTRY_DSN=

# Configure these with your own Docker registry images
DOCKER_IMAGE_BACKEND=backend
DOCKER_IMAGE_FRONTEND=frontend
""",
    "pydantic-settings": r"""SHOP_DEBUG=false
SHOP_REDIS__URL=redis://localhost
SHOP_ADMINS=["a@example.com","b@example.com"]
SHOP_LIMITS={"a":1,"b":2}
SHOP_NAMES='["a b", "c"]'
""",
    "Flask": """FLASK_APP="shop:create_app('production')"
FLASK_DEBUG=0
FLASK_RUN_PORT=8000
SQLALCHEMY_DATABASE_URI=sqlite:////var/lib/shop/shop.db
SECRET_KEY=_5#y2L"F4Q8z]
""",
    "Go": """GO_ENV=production
HTTP_ADDR=:8080
DB_DSN="host=localhost user=shop password=shop dbname=shop sslmode=disable TimeZone=Europe/Berlin"
GOMEMLIMIT=750MiB
GODEBUG=netdns=go,http2client=0
READ_TIMEOUT=5s
""",
    "Rust": """RUST_LOG=info,tower_http=debug,sqlx=warn
RUST_BACKTRACE=full
DATABASE_URL=postgres://postgres:password@localhost:5432/newsletter
APP_APPLICATION__HOST=0.0.0.0
ROCKET_DATABASES={shop={url="postgres://h/d"}}
""",
    "compose project": r"""# Used by compose itself, for ${...} in compose.yaml
COMPOSE_PROJECT_NAME=shop
COMPOSE_FILE=compose.yaml:compose.prod.yaml
COMPOSE_PROFILES=web,worker
TAG=1.27-alpine
HTTP_PORT=8080
DATA_DIR=./data
MYSQL_ROOT_PASSWORD=a$$b
TZ=Europe/Berlin
PUID=1000
PGID=1000
""",
    "env_file of compose": r"""MYSQL_ROOT_PASSWORD=my-secret-pw
MYSQL_DATABASE=wordpress
MYSQL_USER=wordpress
MYSQL_PASSWORD=wordpress
WORDPRESS_DB_HOST=db:3306
WORDPRESS_CONFIG_EXTRA=define('WP_DEBUG', true);
HTTP_PROXY
NO_PROXY
""",
    "docker --env-file": """# Values are taken as they are: quotes would be a part of them
VAR1=value one
VAR2=it's
VAR3=a=b=c
USER
EMPTY=
""",
    "systemd": r"""# Environment of shop.service; see systemd.exec(5)
SHOP_HOME=/srv/shop
SHOP_OPTS="--verbose --listen=127.0.0.1:8080"
SHOP_PATTERN='^[a-z]+$'
; a comment of another kind
SHOP_LONG="one \
two \
three"
LC_ALL=C.UTF-8
""",
    "/etc/default": r"""# Defaults for shop initscript
# sourced by /etc/init.d/shop
# installed at /etc/default/shop by the maintainer scripts

#
# This is a POSIX shell fragment
#

# Additional options that are passed to the Daemon.
DAEMON_OPTS="-a :6081 \
             -T localhost:6082 \
             -f /etc/varnish/default.vcl \
             -S /etc/varnish/secret \
             -s malloc,256m"

START=yes
NFILES=131072
MEMLOCK=82000
""",
    "/etc/sysconfig": r"""# Options for the shop, see shop(8)
OPTIONS="-u shop -l notice"

# Settings for the JVM; ${JAVA_HOME} is set by the unit
JAVA="/usr/bin/java"
JAVA_MEM="-Xmx2g"
CACHESIZE="64"
""",
    "/etc/environment": """PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/games:/snap/bin"
http_proxy="http://proxy.example.com:3128/"
no_proxy="localhost,127.0.0.1,.example.com"
JAVA_HOME=/usr/lib/jvm/default-java
""",
    "Apache envvars": r"""# settings that a shell reads before the web server is started
unset HOME
if [ -n "${INSTANCE:-}" ]; then
    SUFFIX="-$INSTANCE"
else
    SUFFIX=
fi

export APACHE_RUN_USER=www-data
export APACHE_RUN_GROUP=www-data
export APACHE_PID_FILE=/var/run/apache2$SUFFIX/apache2.pid
export APACHE_LOG_DIR=/var/log/apache2$SUFFIX
export LANG=C
export LANG
""",
    "Grafana": """GF_SERVER_ROOT_URL=https://grafana.example.com/
GF_SECURITY_ADMIN_PASSWORD='a$b'
GF_INSTALL_PLUGINS=grafana-clock-panel,grafana-simple-json-datasource
GF_AUTH_GENERIC_OAUTH_SCOPES=openid profile email
""",
    "Keycloak": """KC_DB=postgres
KC_DB_URL=jdbc:postgresql://postgres/keycloak
KC_HOSTNAME=https://id.example.com
KEYCLOAK_ADMIN=admin
KEYCLOAK_ADMIN_PASSWORD=change_me
KC_PROXY_HEADERS=xforwarded
JAVA_OPTS_APPEND="-XX:+HeapDumpOnOutOfMemoryError"
""",
    "Mastodon": r"""# This is a sample configuration file. You can generate your configuration
# with the `bundle exec rails mastodon:setup` interactive setup wizard, but to customize
# your setup even further, you'll need to edit it manually.

# Federation
# ----------
# This identifies your server and cannot be changed safely later
# ----------
LOCAL_DOMAIN=example.com

# Redis
# -----
REDIS_HOST=localhost
REDIS_PORT=6379

# Secrets
# -------
# Make sure to use `bundle exec rails secret` to generate secrets
SECRET_KEY_BASE=
OTP_SECRET=

# Web Push
VAPID_PRIVATE_KEY=
VAPID_PUBLIC_KEY=

# Sending mail
SMTP_SERVER=
SMTP_PORT=587
SMTP_LOGIN=
SMTP_PASSWORD=
SMTP_FROM_ADDRESS=notifications@example.com

# IP and session retention
IP_RETENTION_PERIOD=31556952
SESSION_RETENTION_PERIOD=31556952
""",
    "GitLab runner": """CI_SERVER_URL=https://gitlab.example.com/
RUNNER_EXECUTOR=docker
DOCKER_VOLUMES=["/cache","/var/run/docker.sock:/var/run/docker.sock"]
RUNNER_TAG_LIST=a,b
""",
    "Sentry": """COMPOSE_PROJECT_NAME=sentry-self-hosted
SENTRY_EVENT_RETENTION_DAYS=90
# You can either use a port number or an IP:PORT combo for SENTRY_BIND
SENTRY_BIND=9000
# Set SENTRY_MAIL_HOST to a valid FQDN (host/domain name) to be able to send emails!
# SENTRY_MAIL_HOST=example.com
SENTRY_IMAGE=getsentry/sentry:nightly
HEALTHCHECK_INTERVAL=30s
""",
    "Shopware": """APP_ENV=prod
APP_URL=https://shop.example.com
APP_SECRET=def00000abc
INSTANCE_ID=abcdefghijklmnopqrstuvwxyz012345
DATABASE_URL=mysql://shop:shop@localhost:3306/shopware
LOCK_DSN=flock
BLUE_GREEN_DEPLOYMENT=0
MAILER_DSN=smtp://localhost:1025?encryption=&auth_mode=
SHOPWARE_HTTP_DEFAULT_TTL=7200
STOREFRONT_PROXY_URL=http://localhost
COMPOSER_HOME=/var/www/html/var/cache/composer
""",
    "Home Assistant add-on": "PAPERLESS_OCR_LANGUAGE=deu+eng\nPAPERLESS_FILENAME_FORMAT={created_year}/{title}\n",
    "Terraform": 'TF_VAR_region=eu-central-1\nTF_VAR_zones=["a","b"]\nTF_VAR_tags={"a"="b"}\nTF_LOG=\n',
    "AWS": """AWS_PROFILE=default
AWS_REGION=eu-central-1
AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY
SNS_ARN=arn:aws:sns:eu-central-1:123456789012:topic
S3_URL=s3://bucket/a b/c
""",
    "Windows editor": "\ufeffA=1\r\n# Einstellungen f\u00fcr den Shop\r\nNAME=Gr\u00fc\u00dfe\r\nB=2\r\n",
    "apostrophe in a name": "SHOP_NAME=Bob's Shop\nA=1\n",
    "apostrophe in a comment": "# don't commit this file\nA=1 # it's ours\n",
    "private key of several lines": """A=1
PRIVATE_KEY="-----BEGIN PRIVATE KEY-----
MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj
MzEfYyjiWA4R4/M2bS1GB4t7NXp98C3SC6dVMvDuictGeurT8jNbvJZHtCSuYEvu
-----END PRIVATE KEY-----"
B=2
""",
    "service account of Google": (
        """GOOGLE_APPLICATION_CREDENTIALS_JSON='{"type": "service_account", "project_id": "x", "private_key":"""
        """ "-----BEGIN PRIVATE KEY-----\\nMIIE\\n-----END PRIVATE KEY-----\\n"}'\nA=1\n"""
    ),
}
"""By name. Where one of these is refused, somebody who has such a file cannot use the collection."""
