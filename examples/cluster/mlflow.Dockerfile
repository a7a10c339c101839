# MLflow's server with logins, and PostgreSQL's driver.
FROM python:3.12-slim
RUN pip install --no-cache-dir "mlflow[auth]>=3.17.1,<4" "psycopg[binary]>=3.2"
