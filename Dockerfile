# Cesar's service with the model `base`. See docs/howto/run-in-a-container.md.
FROM python:3.11-slim
RUN useradd --create-home --uid 10001 cesar && install -d -o cesar -g cesar /data
WORKDIR /opt/cesar
COPY pyproject.toml README.md LICENSE ./
COPY cesar ./cesar
RUN pip install --no-cache-dir ".[base]"
USER cesar
ENV CESAR_DATA_DIR=/data CESAR_LOG_FORMAT=json
VOLUME /data
EXPOSE 5000
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:5000/health', timeout=4)"]
CMD ["cesar", "serve", "--host", "0.0.0.0"]
